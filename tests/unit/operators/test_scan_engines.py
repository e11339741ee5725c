"""Several engines: one instance per platform and engine, none of which affects the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.core.gate.findings import Finding, Severity
from delivery_chain.core.results import Scanned, ScanResult
from delivery_chain.core.spec.slots import widths
from delivery_chain.errors import DatabaseUnavailable, ScanFailed
from delivery_chain.oci.client import RegistryClient
from delivery_chain.operators.build import AssembleOperator
from delivery_chain.operators.scan import GateOperator, ScanOperator
from support.chain_steps import NAME, Run, both_platforms, build_plan, built, chain, image_plan
from support.image_trees import Forest
from support.toy_scanner import Toy, plug

if TYPE_CHECKING:
    from support.oci_memory import MemoryRegistry

BOTH = ("linux/amd64", "linux/arm64")
NAMES = ("trivy", "second")
BAD = Finding(id="CVE-2026-0001", severity=Severity.HIGH, package="libc6", installed="2.36")


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> dict[str, Toy]:
    """Two engines by name; neither finds anything."""
    made = {name: Toy(name=name) for name in NAMES}
    for one in made.values():
        plug(monkeypatch, one)
    return made


def judged(run: Run) -> Any:
    return GateOperator(task_id="gate").choose_branch(run.context("gate"))


def scan(run: Run, *slots: int) -> None:
    for slot in slots:
        run.do(ScanOperator(task_id="scan", slot=slot), slot)


def results(run: Run, slot: int) -> tuple[ScanResult, ...]:
    left = {key: value for key, value in run.left("scan", index=slot).items() if key != "seal"}
    return Scanned.from_xcom(left).results


def two(**scan_section: Any) -> Any:
    return both_platforms(scan={"engine": list(NAMES), "block": {"severity": "high"}, **scan_section})


def test_each_platform_is_scanned_with_each_engine(home: MemoryRegistry, engines: dict[str, Toy]) -> None:
    """An instance each, in the order of the spec; each leaves its engine's result alone."""
    run, _ = built(home.registry, two(), build_plan(*BOTH))
    scan(run, 0, 1, 2, 3)
    found = [[(one.platform, one.engine) for one in results(run, slot)] for slot in range(4)]
    assert found == [[(platform, name)] for platform in BOTH for name in NAMES]
    assert judged(run) == "publish"


def test_one_engines_failure_leaves_the_others_result(home: MemoryRegistry, engines: dict[str, Toy]) -> None:
    """It is no pass; once the failed one is through, the gate takes both, and the other did not scan again."""
    run, _ = built(home.registry, two(), build_plan(*BOTH))
    engines["second"].error = DatabaseUnavailable("no database")
    scan(run, 0, 2)
    before = [run.left("scan", index=index) for index in (0, 2)]
    for slot in (1, 3):
        with pytest.raises(DatabaseUnavailable):
            scan(run, slot)
    assert [run.left("scan", index=index) for index in range(4)] == [before[0], None, before[1], None]
    with pytest.raises(ScanFailed, match="no second report on"):
        judged(run)
    engines["second"].error = None
    scan(run, 1, 3)
    assert judged(run) == "publish"
    assert len(engines["trivy"].asked) == 2


@pytest.mark.parametrize("name", NAMES)
def test_what_one_engine_finds_blocks(home: MemoryRegistry, engines: dict[str, Toy], name: str) -> None:
    """Whatever the other says."""
    engines[name].findings = {BOTH[1]: (BAD,)}
    run, _ = built(home.registry, two(), build_plan(*BOTH))
    scan(run, 0, 1, 2, 3)
    assert judged(run) == "quarantine"


def test_several_images_of_one_platform_are_one_instance_per_engine(
    home: MemoryRegistry, engines: dict[str, Toy]
) -> None:
    """Each of them is a job of its own: variants that a platform's name does not tell apart."""
    forest = Forest()
    variants = [forest.image({"a": text}) for text in "12"]
    with RegistryClient(home.registry) as client:
        digest = forest.upload(client, NAME, "v7", forest.index(*variants))
    spec = chain(sources=None, build=None, scan={"engine": list(NAMES)})
    run = Run(spec, image_plan(digest, "v7"))
    images = run.do(AssembleOperator(task_id="assemble"))["images"]
    scan(run, 0, 1)
    digests = [image["digest"] for image in images]
    assert len(digests) == 2
    assert [[one.digest for one in results(run, slot)] for slot in (0, 1)] == [digests, digests]


def test_a_run_keeps_the_engines_that_it_was_planned_with(
    home: MemoryRegistry, engines: dict[str, Toy]
) -> None:
    """One more engine in the spec since: the Dag has room for both, the run's instances are about what they were."""
    planned = both_platforms(scan={"block": {"severity": "high"}})
    run, _ = built(home.registry, planned, build_plan(*BOTH))
    assert (widths(planned)["scan"], widths(two())["scan"]) == (3, 6)
    labels = [
        ScanOperator(task_id="scan", slot=slot).about(run.context("scan", slot)["ti"]) for slot in range(4)
    ]
    assert labels == [*BOTH, "other platforms", ""]
    scan(run, 0, 1)
    assert (judged(run), engines["second"].asked) == ("publish", [])
