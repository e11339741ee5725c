"""The list "Where to add a scan engine" of docs/architecture.md, followed for Trivy and for a toy."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from delivery_chain.core.spec.scan import Scan
from delivery_chain.scanners.table import SCANNERS
from support.toy_scanner import Toy, plug
from support.ways_in import ROOT, way_in

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = ROOT / "plugins" / "delivery_chain"
MAY_NAME = {
    "scanners/trivy": "the engine's own room",
    "scanners/table.py": "its row",
    "core/spec/engines.py": "its name in specs",
    "provider_info.py": "its options, where nothing may be imported",
    "tools/known_flaws.py": "its flaws, a row each",
    "tools/process.py": "how to install it, a row",
    "sandbox": "its sample databases, and the wheel that sandboxes scan with",
    "commands/sandbox.py": "whose database a sandbox takes",
}
"""Files and folders that name an engine, and why; all others work for any."""
STEPS = way_in("scan engine")


def test_the_list_is_numbered() -> None:
    """From 1, without a gap."""
    assert [item.number for item in STEPS] == list(range(1, len(STEPS) + 1))


@pytest.mark.parametrize("name", SCANNERS)
def test_the_list_holds_for_what_was_added(name: str) -> None:
    """Each file that it names is there, and has a place for the engine."""
    assert [lack for item in STEPS if (lack := item.lacks(name))] == []


@pytest.mark.parametrize("name", SCANNERS)
def test_the_list_leads_to_what_is_loaded(name: str) -> None:
    """The first file is the one that the name loads."""
    assert Path(inspect.getfile(type(SCANNERS.load(name)()))) == STEPS[0].file(name)


def test_a_toy_that_is_registered_by_these_steps_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row and a name are all that a spec and a job need."""
    toy = Toy(name="toy")
    plug(monkeypatch, toy)
    assert (Scan(engine=("toy",)).engine, SCANNERS.load("toy")()) == (("toy",), toy)


def files() -> Iterator[str]:
    for path in PACKAGE.rglob("*"):
        if path.suffix in {".py", ".html"} and "trivy" in path.read_text("utf-8").lower():
            yield path.relative_to(PACKAGE).as_posix()


def test_nothing_else_names_an_engine() -> None:
    """So that another one needs no other change."""
    assert [one for one in files() if not one.startswith(tuple(MAY_NAME))] == []
