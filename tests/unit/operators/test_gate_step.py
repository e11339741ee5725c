from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from delivery_chain.core.gate.findings import REPORT_TYPE, Database, Finding, ScanReport, Severity
from delivery_chain.core.gate.judge import Verdict
from delivery_chain.core.names.reference import sha256_digest
from delivery_chain.core.results import Scanned, ScanResult
from delivery_chain.errors import (
    ConfigurationError,
    ContentMismatch,
    DatabaseUnavailable,
    ScanFailed,
    Unjudged,
)
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.referrers import list_referrers
from delivery_chain.operators import verdict as judging
from delivery_chain.operators.scan import GateOperator, ScanOperator
from support.chain_steps import NAME, Run, build_plan, built, chain
from support.toy_scanner import RAW_TYPE, Toy, plug

if TYPE_CHECKING:
    from delivery_chain.core.spec.model import ChainSpec
    from support.oci_memory import MemoryRegistry

BOTH = ("linux/amd64", "linux/arm64")
FRESH = Database(
    repository="db.example.com/trivy-db:2",
    updated_at=datetime(2026, 5, 20, 6, 0, tzinfo=UTC),
    limit="[delivery_chain] trivy_db_max_age_hours",
)
BAD = Finding(id="CVE-2026-0001", severity=Severity.HIGH, package="libc6", installed="2.36", fixed="2.37")
MILD = Finding(id="CVE-2026-0002", severity=Severity.LOW, package="zlib", installed="1.2")
BLOCKING = chain(scan={"block": {"severity": "high"}})


def engine(monkeypatch: pytest.MonkeyPatch, *findings: Finding, **fields: Any) -> Toy:
    made = Toy(dict.fromkeys(BOTH, findings), **{"database": FRESH, **fields})
    plug(monkeypatch, made)
    return made


def scanned(home: MemoryRegistry, spec: ChainSpec, *platforms: str) -> tuple[Run, str]:
    """A run of two platforms after the scans of the platforms named."""
    run, subject = built(home.registry, spec, build_plan(*BOTH))
    for platform in platforms:
        index = BOTH.index(platform)
        run.do(ScanOperator(task_id="scan", slot=index), index)
    return run, subject.digest


def digests(run: Run) -> dict[str, str]:
    """The run's images by platform."""
    return {image["platform"]: image["digest"] for image in run.left("assemble")["images"]}


def gate(run: Run) -> Any:
    step = GateOperator(task_id="gate")
    return step.choose_branch(run.context("gate"))


def test_a_scan_goes_by_digest(home: MemoryRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is asked for the platform's own manifest, not for a tag or the index."""
    made = engine(monkeypatch)
    run, digest = scanned(home, BLOCKING, *BOTH)
    children = digests(run)
    assert made.asked == [(NAME, children[one], one) for one in BOTH]
    assert digest not in children.values()


def test_a_scan_leaves_both_reports_at_the_image(
    home: MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's own report and ours are referrers of the platform's manifest; the XCom has facts and digests."""
    engine(monkeypatch, BAD, MILD)
    run, _ = scanned(home, BLOCKING, "linux/arm64")
    (found,) = run.left("scan", index=1)["results"]
    child = digests(run)["linux/arm64"]
    with RegistryClient(home.registry) as client:
        kinds = {entry.artifact_type: entry.digest for entry in list_referrers(client, NAME, child)}
        report = client.get_blob(NAME, found["report"])
    assert ScanResult.from_xcom(found) == ScanResult(
        engine="trivy",
        platform="linux/arm64",
        digest=child,
        counts={"critical": 0, "high": 1, "medium": 0, "low": 1, "unknown": 0},
        database=FRESH,
        report=sha256_digest(report),
        referrer=kinds[RAW_TYPE],
    )
    assert set(kinds) == {RAW_TYPE, REPORT_TYPE}
    assert ScanReport.model_validate_json(report).findings == (BAD, MILD)
    assert "CVE-2026-0001" not in json.dumps(found)
    assert (
        run.left("scan", "report_url", 1) == f"http://{home.registry.host}/v2/{NAME}/blobs/{found['report']}"
    )


def test_a_scan_that_is_repeated_adds_no_second_report(
    home: MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retry leaves what one try leaves."""
    engine(monkeypatch, BAD)
    run, _ = scanned(home, BLOCKING, *BOTH)
    before = (dict(home.tags), dict(home.manifests), dict(home.blobs), dict(run.xcoms))
    run.do(ScanOperator(task_id="scan", slot=0), 0)
    assert (home.tags, home.manifests, home.blobs, run.xcoms) == before


def test_a_cleared_scan_adds_a_report_by_the_database_of_now(
    home: MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The older report stays at the image; the run goes by the new one."""
    engine(monkeypatch)
    run, _ = scanned(home, BLOCKING, *BOTH)
    child = digests(run)[BOTH[0]]
    (first,) = run.left("scan", index=0)["results"]
    newer = FRESH.model_copy(update={"updated_at": FRESH.updated_at + timedelta(days=1)})
    engine(monkeypatch, BAD, database=newer)
    run.clear("scan", 0)
    run.do(ScanOperator(task_id="scan", slot=0), 0)
    (second,) = run.left("scan", index=0)["results"]
    with RegistryClient(home.registry) as client:
        entries = list_referrers(client, NAME, child, artifact_type=REPORT_TYPE)
        layers = [
            json.loads(client.get_manifest(NAME, one.digest).raw)["layers"][0]["digest"] for one in entries
        ]
    assert sorted(layers) == sorted([first["report"], second["report"]])
    assert (first["report"] != second["report"], gate(run)) == (True, "quarantine")


def test_a_cleared_gate_goes_by_the_date_of_now(
    home: MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception holds on its last day, and not on the day after."""
    engine(monkeypatch, BAD)
    exception = {"id": BAD.id, "reason": "a fix is on its way", "expires": "2026-05-20"}
    run, _ = scanned(home, chain(scan={"block": {"severity": "high", "exceptions": [exception]}}), *BOTH)
    found = []
    for day in (20, 21):
        now = datetime(2026, 5, day, 12, tzinfo=UTC)
        monkeypatch.setattr(judging, "datetime", SimpleNamespace(now=lambda _, now=now: now))
        run.clear("gate")
        found.append(gate(run))
    assert found == ["publish", "quarantine"]


@pytest.mark.parametrize(
    ("scan", "slot", "reason"),
    [
        ({"enabled": False}, 0, "the chain has scan.enabled: false"),
        ({"platforms": ["linux/386"]}, 1, "the image has no linux/386"),
    ],
)
def test_a_scan_that_is_not_for_the_image_is_skipped(
    home: MemoryRegistry, monkeypatch: pytest.MonkeyPatch, scan: dict[str, Any], slot: int, reason: str
) -> None:
    """The instance ends as skipped with its reason; no engine is started."""
    made = engine(monkeypatch)
    run, _ = built(home.registry, chain(scan=scan), build_plan(*BOTH))
    with pytest.raises(AirflowSkipException) as caught:
        run.do(ScanOperator(task_id="scan", slot=slot), slot)
    assert (str(caught.value), made.asked) == (reason, [])


@pytest.mark.parametrize("error", [ScanFailed("no report"), DatabaseUnavailable("no database")])
def test_a_scan_that_fails_leaves_nothing(
    home: MemoryRegistry, monkeypatch: pytest.MonkeyPatch, error: ScanFailed
) -> None:
    """The engine's error becomes the task's, and the gate finds no result."""
    engine(monkeypatch, error=error)
    run, _ = built(home.registry, BLOCKING, build_plan(*BOTH))
    with pytest.raises(ScanFailed) as caught:
        run.do(ScanOperator(task_id="scan", slot=0), 0)
    assert (type(caught.value), str(caught.value)) == (type(error), str(error))
    assert run.left("scan", index=0) is None
    with pytest.raises(ScanFailed):
        gate(run)


@pytest.mark.parametrize(
    ("scan", "findings", "branch", "sentence"),
    [
        ({"block": {"severity": "high"}}, (), "publish", "passed with no findings"),
        ({"block": {"severity": "high"}}, (MILD,), "publish", "passed with 1 low"),
        ({"block": {"severity": "high"}}, (BAD,), "quarantine", "blocked: "),
        ({"block": {"findings": ["CVE-2026-0002"]}}, (MILD,), "quarantine", "blocked: "),
        ({}, (BAD,), "publish", "passed with 1 high"),
    ],
)
def test_the_branch_is_the_verdict(
    home: MemoryRegistry,
    monkeypatch: pytest.MonkeyPatch,
    scan: dict[str, Any],
    findings: tuple[Finding, ...],
    branch: str,
    sentence: str,
) -> None:
    """Blocking findings lead to quarantine, none, mild ones or a chain that blocks nothing to publish."""
    engine(monkeypatch, *findings)
    run, digest = scanned(home, chain(scan=scan), *BOTH)
    assert gate(run) == branch
    found = Verdict.from_xcom(run.left("gate"))
    assert (found.passed, found.digest) == (branch == "publish", digest)
    assert found.sentence.startswith(sentence)


def test_one_platform_blocks_the_whole_image(home: MemoryRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finding of arm64 alone is enough."""
    made = engine(monkeypatch)
    made.findings = {"linux/arm64": (BAD,)}
    run, _ = scanned(home, BLOCKING, *BOTH)
    assert gate(run) == "quarantine"
    assert [found.id for found in Verdict.from_xcom(run.left("gate")).deciding] == [BAD.id]


def test_an_image_that_is_not_scanned_says_so(home: MemoryRegistry) -> None:
    """With scan.enabled: false the verdict passes with a note, and no count that would look like a scan."""
    run, digest = scanned(home, chain(scan={"enabled": False}))
    assert gate(run) == "publish"
    found = Verdict.from_xcom(run.left("gate"))
    assert (found.digest, found.counts, found.notes) == (
        digest,
        {},
        ("not scanned: the chain has scan.enabled: false",),
    )


def drop(run: Run, home: MemoryRegistry) -> None:
    run.xcoms.pop(("scan", 1, "return_value"))


def empty(run: Run, home: MemoryRegistry) -> None:
    run.leave("scan", Scanned(results=()), 1)


def another_image(run: Run, home: MemoryRegistry) -> None:
    subject = run.left("assemble")
    subject["images"][1]["digest"] = "sha256:" + "9" * 64
    run.leave("assemble", subject)


def lose_report(run: Run, home: MemoryRegistry) -> None:
    del home.blobs[f"{NAME}@{run.left('scan', index=1)['results'][0]['report']}"]


def change_report(run: Run, home: MemoryRegistry) -> None:
    key = f"{NAME}@{run.left('scan', index=1)['results'][0]['report']}"
    home.blobs[key] = home.blobs[key].replace(b'"findings":[', b'"findings": [')


def swap_report(run: Run, home: MemoryRegistry) -> None:
    (other,) = run.left("scan", index=0)["results"]
    run.leave("scan", {"results": [other | {"platform": "linux/arm64"}]}, 1)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (drop, ScanFailed),
        (empty, ScanFailed),
        (another_image, ScanFailed),
        (swap_report, ScanFailed),
        (lose_report, Unjudged),
        (change_report, ContentMismatch),
    ],
)
def test_the_gate_fails_closed(
    home: MemoryRegistry, monkeypatch: pytest.MonkeyPatch, change: Any, error: type[Exception]
) -> None:
    """A report that is missing, about another image, lost or changed is no pass: no verdict is left at all."""
    engine(monkeypatch)
    run, _ = scanned(home, BLOCKING, *BOTH)
    change(run, home)
    with pytest.raises(error) as caught:
        gate(run)
    assert (type(caught.value), run.left("gate")) == (error, None)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"database": FRESH.model_copy(update={"stale": True})},
            "older than [delivery_chain] trivy_db_max_age",
        ),
        ({"other_digest": "sha256:" + "9" * 64}, "is about sha256:999999999999"),
    ],
)
def test_a_report_that_proves_nothing_is_no_pass(
    home: MemoryRegistry, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], message: str
) -> None:
    """Neither a stale database nor a report on another digest lets an image out, though both found nothing."""
    engine(monkeypatch, **fields)
    run, _ = scanned(home, BLOCKING, *BOTH)
    with pytest.raises(ScanFailed) as caught:
        gate(run)
    assert (message in str(caught.value), run.left("gate")) == (True, None)


def test_a_chain_that_accepts_a_stale_database_says_so(
    home: MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its name in the spec alone, and with a note in the verdict."""
    engine(monkeypatch, database=FRESH.model_copy(update={"stale": True}))
    spec = chain(scan={"block": {"severity": "high"}, "accept": ["stale_database"]})
    run, _ = scanned(home, spec, *BOTH)
    assert gate(run) == "publish"
    assert [
        note.endswith("; accepted by the chain (stale_database)") for note in run.left("gate")["notes"]
    ] == [True]


@pytest.mark.parametrize("task", ["plan", "assemble"])
def test_a_gate_needs_its_run(home: MemoryRegistry, monkeypatch: pytest.MonkeyPatch, task: str) -> None:
    """Without plan or image the gate judges nothing, and the message says what to clear."""
    engine(monkeypatch)
    run, _ = scanned(home, BLOCKING, *BOTH)
    run.xcoms.pop((task, -1, "return_value"))
    with pytest.raises(ConfigurationError, match=f"clear the task `{task}`"):
        gate(run)
