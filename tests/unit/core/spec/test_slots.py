from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.core.spec import engines
from delivery_chain.core.spec.slots import (
    ANY,
    ScanSlot,
    nothing_there,
    scan_slots,
    slot_names,
    widest,
    widths,
)
from support.chain_steps import both_platforms, chain

if TYPE_CHECKING:
    from delivery_chain.core.spec.model import ChainSpec

REGIONS = [{"name": "to-west", "to": "west"}, {"name": "to-east", "to": "east"}]
TRIGGERS = [{"name": "prod", "url_connection": "prod_hook"}]
IMAGES: dict[str, Any] = {"sources": None, "build": None}


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        (
            both_platforms(replicate=REGIONS, distribute=TRIGGERS, scan={"platforms": ["linux/386"]}),
            {
                "build": ("linux/amd64", "linux/arm64"),
                "scan": ("linux/amd64", "linux/arm64", "linux/386", "other platforms"),
                "replicate": ("to-west", "to-east"),
                "distribute": ("prod",),
            },
        ),
        (
            chain(**IMAGES, scan={"engine": ["trivy", "trivy"]}),
            {"build": (), "scan": ("linux/amd64", "linux/arm64", "other platforms")}
            | {"replicate": (), "distribute": ()},
        ),
        (
            chain(**IMAGES),
            {
                "build": (),
                "scan": ("linux/amd64", "linux/arm64", "other platforms"),
                "replicate": (),
                "distribute": (),
            },
        ),
    ],
)
def test_what_the_instances_are_about(spec: ChainSpec, names: dict[str, tuple[str, ...]]) -> None:
    """In the order of their map indexes, whichever rule of the spec names a platform first."""
    assert slot_names(spec) == names
    assert widths(spec) == {step: len(found) for step, found in names.items()}


def test_several_engines_have_an_instance_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """For each platform; each is named by both, and found again at its position."""
    monkeypatch.setattr(engines, "SCAN_ENGINES", ("trivy", "other"))
    spec = chain(**IMAGES, scan={"engine": ["other", "trivy"], "platforms": {"ship": ["linux/amd64"]}})
    assert slot_names(spec)["scan"] == (
        "linux/amd64 with other",
        "linux/amd64 with trivy",
        "other platforms with other",
        "other platforms with trivy",
    )
    assert scan_slots(spec)[1] == ScanSlot("linux/amd64", "trivy")


def test_the_widest_has_room_for_all() -> None:
    """Step by step; what an older package did not know counts as none."""
    assert widest({"build": 1, "scan": 4}, {"build": 2, "replicate": 1}) == {
        "build": 2,
        "scan": 4,
        "replicate": 1,
        "distribute": 0,
    }


def test_a_tasks_process_is_as_wide_as_any_spec() -> None:
    """The most of each that a spec may have."""
    many = [{"name": f"r{number}", "to": "west"} for number in range(100)]
    told = [{"name": f"t{number}", "url_connection": "hook"} for number in range(100)]
    full = widths(both_platforms(replicate=many, distribute=told))
    assert widest(ANY, full) == ANY


@pytest.mark.parametrize(
    ("step", "slot", "reason"),
    [
        ("replicate", 1, ""),
        ("replicate", 2, "instance 2: this run was planned with 2 replication rules"),
        ("distribute", 1, "instance 1: this run was planned with 1 triggers"),
        ("build", 4, "instance 4: this run was planned with 0 platforms to build"),
    ],
)
def test_an_instance_that_is_about_nothing_says_why(step: str, slot: int, reason: str) -> None:
    spec = chain(replicate=REGIONS, distribute=TRIGGERS, **(IMAGES if step == "build" else {}))
    assert nothing_there(spec, step, slot) == (reason and f"nothing to do for {reason}")
