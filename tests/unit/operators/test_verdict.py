"""Steps accept nothing that others wrote, and release nothing that the gate would refuse now."""

from __future__ import annotations

import json
from copy import deepcopy
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.core.gate.findings import CREATED, REPORT_TYPE, Database, Finding, Severity
from delivery_chain.core.seal import SEAL, Place, sealed
from delivery_chain.errors import (
    ConfigurationError,
    DeliveryChainError,
    NotDelivered,
    ScanFailed,
    SealBroken,
    Unjudged,
)
from delivery_chain.hooks import signing_secret as signing
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.referrers import attach
from delivery_chain.operators.build import AssembleOperator, BuildOperator
from delivery_chain.operators.distribute import DistributeOperator
from delivery_chain.operators.publish import PublishOperator
from delivery_chain.operators.quarantine import DeniedOperator, QuarantineOperator
from delivery_chain.operators.replicate import ReplicateOperator
from delivery_chain.operators.report import ReportOperator
from delivery_chain.operators.scan import GateOperator, ScanOperator
from support.chain_steps import DATABASE, NAME, Run, build_plan, chain, judged, report_on, scanned, verdict

if TYPE_CHECKING:
    from support.oci_memory import MemoryRegistry

BAD = Finding(id="CVE-2026-10001", severity=Severity.HIGH, package="libc6", installed="2.36", fixed="2.37")
SPEC = chain(
    scan={"block": {"severity": "high", "on_block": {"delete": True}}},
    replicate=[{"name": "to-west", "to": "west"}],
    distribute=[{"name": "prod", "url_connection": "prod_hook"}],
)
BOTH = ("linux/amd64", "linux/arm64")
STEPS: dict[str, Any] = {
    "build": lambda: BuildOperator(task_id="build", slot=0),
    "assemble": lambda: AssembleOperator(task_id="assemble"),
    "scan": lambda: ScanOperator(task_id="scan", slot=0),
    "gate": lambda: GateOperator(task_id="gate"),
    "publish": lambda: PublishOperator(task_id="publish"),
    "quarantine": lambda: QuarantineOperator(task_id="quarantine"),
    "denied": lambda: DeniedOperator(task_id="denied"),
    "replicate": lambda: ReplicateOperator(task_id="replicate", slot=0),
    "distribute": lambda: DistributeOperator(task_id="distribute", slot=0),
}
READ_BY = {
    "plan": ("build", "assemble", "scan", "gate", "publish", "replicate", "distribute"),
    "build": ("assemble",),
    "assemble": ("scan", "gate", "publish", "replicate", "distribute"),
    "scan": ("gate", "publish", "replicate", "distribute"),
    "gate": ("publish", "quarantine", "denied", "replicate", "distribute"),
    "publish": ("replicate", "distribute"),
    "replicate": ("distribute",),
}
"""Which step reads what an earlier one left."""
MAPPED = {"build", "scan", "replicate"}


def done(home: MemoryRegistry) -> Run:
    """A run that passed, up to its end, of two platforms and one region."""
    run, _ = judged(home.registry, SPEC, build_plan(*BOTH))
    run.do(PublishOperator(task_id="publish"))
    run.do(ReplicateOperator(task_id="replicate", slot=0), 0)
    return run


def image_of(run: Run, platform: str) -> str:
    """The digest of a platform's image."""
    images: list[dict[str, str]] = run.left("assemble")["images"]
    return next(image["digest"] for image in images if image["platform"] == platform)


def changed(value: dict[str, Any]) -> dict[str, Any]:
    """A small edit that keeps the value's form, deep inside it."""
    text = json.dumps(value)
    edited = text.replace("sha256:", "sha256:0", 1) if "sha256:" in text else text.replace("shop", "ship", 1)
    found: dict[str, Any] = json.loads(edited)
    assert found != value
    return found


def unsealed(value: dict[str, Any]) -> dict[str, Any]:
    return {key: part for key, part in value.items() if key != SEAL}


def elsewhere(value: dict[str, Any]) -> dict[str, Any]:
    """As another installation sealed it."""
    index = int(value[SEAL].partition(":")[0])
    return sealed(unsealed(value), Place("shop", "r1", "gate", index), "e" * 64)


def as_text(value: dict[str, Any]) -> str:
    return json.dumps(value)


EDITS = {"changed": changed, "unsealed": unsealed, "elsewhere": elsewhere, "text": as_text}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize(
    ("left", "step"), [(left, step) for left, steps in READ_BY.items() for step in steps]
)
def test_a_step_takes_nothing_that_was_edited(
    home: MemoryRegistry, west: MemoryRegistry, left: str, step: str, edit: str
) -> None:
    """Whatever earlier step's value it is: the error names the task, nothing is written anywhere, no retry."""
    run = done(home)
    key = (left, 0 if left in MAPPED else -1, "return_value")
    run.xcoms[key] = EDITS[edit](run.xcoms[key])
    before = (deepcopy(home.tags), deepcopy(west.tags), set(home.manifests), set(west.manifests))
    made = STEPS[step]()
    act = made.choose_branch if step == "gate" else made.execute
    with pytest.raises(SealBroken) as caught:
        act(run.context(step, 0 if step in MAPPED else -1))
    assert f"what the task `{left}" in str(caught.value)
    assert f"Clear the task `{left}`" in str(caught.value)
    assert not caught.value.retryable
    assert (home.tags, west.tags, set(home.manifests), set(west.manifests)) == before


@pytest.mark.parametrize("left", READ_BY)
def test_a_true_value_of_another_run_is_refused(
    home: MemoryRegistry, west: MemoryRegistry, left: str
) -> None:
    """A passed run's verdict, plan or image put into another run is none of its."""
    run = done(home)
    other, _ = judged(home.registry, SPEC, build_plan(*BOTH, run_id="r2"), seed="other")
    other.do(PublishOperator(task_id="publish"))
    other.do(ReplicateOperator(task_id="replicate", slot=0), 0)
    key = (left, 0 if left in MAPPED else -1, "return_value")
    run.xcoms[key] = other.xcoms[key]
    step = READ_BY[left][-1]
    with pytest.raises(SealBroken):
        STEPS[step]().execute(run.context(step, 0 if step in MAPPED else -1))


def test_an_instances_value_does_not_stand_in_for_another_ones(home: MemoryRegistry) -> None:
    """The clean platform's scan is put in the place of the other one's."""
    run, _ = judged(home.registry, SPEC, build_plan(*BOTH))
    run.xcoms["scan", 1, "return_value"] = run.xcoms["scan", 0, "return_value"]
    with pytest.raises(SealBroken, match="`scan` left in run 'r1' is present twice"):
        GateOperator(task_id="gate").choose_branch(run.context("gate"))


def test_a_report_says_what_was_edited_and_removes_nothing(home: MemoryRegistry) -> None:
    """The record is made all the same; the image stays for whoever looks into it."""
    run, _ = judged(home.registry, SPEC, build_plan(), passed=False)
    run.leave("quarantine", {"digest": "x", "deleted": ["x"]})
    run.xcoms["gate", -1, "return_value"] |= {"passed": True}
    before = dict(home.tags)
    with pytest.raises(NotDelivered, match="what gate left was changed"):
        run.do(ReportOperator(task_id="report"))
    assert run.left("report")["sentence"].startswith(
        "NOT TO BE TRUSTED: what gate left was changed afterwards; failed in gate: what it left was changed: clear it"
    )
    assert home.tags == before


def new_plan(run: Run) -> None:
    """The task `plan` was cleared alone, and decides otherwise now."""
    run.plan = build_plan(tags=("v9.9", "latest"))
    run.leave("plan", {"plan": run.plan.to_xcom(), "spec": run.spec.to_xcom()})


def new_spec(run: Run) -> None:
    """The plan of an earlier time, when the spec was milder, is put back: it was true then."""
    assert run.plan is not None
    run.leave("plan", {"plan": run.plan.to_xcom(), "spec": chain(scan={}).to_xcom()})


def new_image(run: Run) -> None:
    run.leave("assemble", run.left("assemble") | {"size": 1})


def fewer_scans(run: Run) -> None:
    del run.xcoms["scan", 1, "return_value"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            new_plan,
            "the run was planned again after its image was made: clear `build`, `assemble` and everything",
        ),
        (
            new_spec,
            "the run was planned again after its image was made: clear `build`, `assemble` and everything",
        ),
        (new_image, "the run's plan, image or scans were made again after .*: clear `gate`"),
        (fewer_scans, "the run's plan, image or scans were made again after .*: clear `gate`"),
    ],
)
def test_true_values_of_different_times_do_not_go_together(
    home: MemoryRegistry, west: MemoryRegistry, change: Any, message: str
) -> None:
    """Each was left by its task in this run; a verdict counts for what it was made from alone."""
    run, _ = judged(home.registry, SPEC, build_plan(*BOTH))
    change(run)
    before = dict(home.tags)
    with pytest.raises(Unjudged, match=message):
        run.do(PublishOperator(task_id="publish"))
    assert home.tags == before


def test_an_image_of_an_earlier_plan_is_not_assembled_again(home: MemoryRegistry) -> None:
    """Plan and assemble were cleared and build was not: its image may be another commit's."""
    run, _ = judged(home.registry, SPEC, build_plan(*BOTH))
    old = {key: value for key, value in run.xcoms.items() if key[0] == "build"}
    new_plan(run)
    run.xcoms |= old
    with pytest.raises(Unjudged, match="again after linux/amd64, linux/arm64 was built: clear `build`"):
        run.do(AssembleOperator(task_id="assemble"))


LATER = DATABASE.model_copy(update={"updated_at": DATABASE.updated_at + timedelta(days=1)})
EARLIER = DATABASE.model_copy(update={"updated_at": DATABASE.updated_at - timedelta(days=1)})


@pytest.mark.parametrize("step", ["publish", "replicate", "distribute"])
def test_what_a_later_scan_found_holds_an_image_back(
    home: MemoryRegistry, west: MemoryRegistry, step: str
) -> None:
    """All that the run left is put back as it was when it passed; the registry knows of the scan that found more."""
    run = done(home)
    child = image_of(run, "linux/amd64")
    report_on(home.registry, "linux/amd64", child, BAD, database=LATER)
    before = (dict(home.tags), dict(west.tags))
    with pytest.raises(Unjudged, match="judged again now it is refused: blocked: 1 finding at or above high"):
        STEPS[step]().execute(run.context(step, 0 if step != "publish" else -1))
    assert (home.tags, west.tags) == before


@pytest.mark.parametrize(
    ("database", "findings", "platform"),
    [(EARLIER, (BAD,), "linux/amd64"), (LATER, (), "linux/amd64"), (DATABASE, (), "linux/arm64")],
)
def test_other_reports_hold_nothing_back(
    home: MemoryRegistry, database: Database, findings: tuple[Finding, ...], platform: str
) -> None:
    """An older scan's findings may be withdrawn since, and a later one without any is fine."""
    run, digest = judged(home.registry, SPEC, build_plan(*BOTH))
    child = image_of(run, platform)
    report_on(home.registry, platform, child, *findings, database=database)
    assert run.do(PublishOperator(task_id="publish"))["digest"] == digest


def test_a_later_reports_advice_is_not_repeated(home: MemoryRegistry) -> None:
    """It may be a stranger's: that its database is stale holds the image back, in words of our own."""
    run, _ = judged(home.registry, SPEC, build_plan(*BOTH))
    words = {"kind": "stranger's", "limit": "a stranger", "remedy": "ask the stranger"}
    stale = LATER.model_copy(update={"stale": True, **words})
    report_on(home.registry, "linux/amd64", image_of(run, "linux/amd64"), database=stale)
    with pytest.raises(ScanFailed, match="older than this installation allows") as caught:
        run.do(PublishOperator(task_id="publish"))
    assert "stranger" not in str(caught.value)


def put_referrer(home: MemoryRegistry, child: str, blob: bytes, created: str) -> None:
    with RegistryClient(home.registry) as client:
        about = client.get_manifest(NAME, child).descriptor()
        attach(client, NAME, about, REPORT_TYPE, blob, REPORT_TYPE, {CREATED: created})


@pytest.mark.parametrize("blob", [b"", b"{}", b"[1]", b"\xff", b'{"engine":"other"}'])
@pytest.mark.parametrize("created", ["", "2999-01-01T00:00:00Z", "x" * 100])
def test_a_referrer_that_is_no_report_is_passed_over(home: MemoryRegistry, blob: bytes, created: str) -> None:
    """Whoever may push to the repository may add one."""
    run, digest = judged(home.registry, SPEC, build_plan())
    put_referrer(home, image_of(run, "linux/amd64"), blob, created)
    assert run.do(PublishOperator(task_id="publish"))["digest"] == digest


def test_reports_without_number_want_a_new_scan(home: MemoryRegistry) -> None:
    """They are not read one by one for ever, nor is any of them overlooked."""
    run, _ = judged(home.registry, SPEC, build_plan())
    child = image_of(run, "linux/amd64")
    for number in range(25):
        put_referrer(home, child, str(number).encode(), "2999-01-01T00:00:00Z")
    with pytest.raises(Unjudged, match="has 26 reports since its scan, more than 20: clear `scan`"):
        run.do(PublishOperator(task_id="publish"))


def test_an_exception_that_ended_holds_an_image_back(home: MemoryRegistry) -> None:
    """It was accepted when the gate judged; a publish that is cleared months later is another day."""
    entry = {"id": BAD.id, "reason": "no fix yet", "expires": "2026-01-01"}
    spec = chain(scan={"block": {"severity": "high", "exceptions": [entry]}})
    run, digest = judged(home.registry, spec, build_plan())
    scanned(home.registry, run, BAD)
    run.leave("gate", verdict(digest))
    with pytest.raises(Unjudged, match="judged again now it is refused"):
        run.do(PublishOperator(task_id="publish"))


def test_a_report_that_is_gone_is_no_pass(home: MemoryRegistry) -> None:
    """What can't be judged again does not go out."""
    run, _ = judged(home.registry, SPEC, build_plan())
    (result,) = run.left("scan", index=0)["results"]
    del home.blobs[f"{NAME}@{result['report']}"]
    with pytest.raises(DeliveryChainError):
        run.do(PublishOperator(task_id="publish"))
    assert home.user_tags(NAME) == {}


def test_nothing_is_read_or_left_without_a_secret(
    home: MemoryRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the Variable, who makes it, and what to do."""
    run, _ = judged(home.registry, SPEC, build_plan())
    signing.signing_secret.cache_clear()
    monkeypatch.setenv("AIRFLOW_VAR_DELIVERY_CHAIN_SIGNING_SECRET", "short")
    try:
        with pytest.raises(ConfigurationError, match="is too short"):
            run.do(PublishOperator(task_id="publish"))
    finally:
        signing.signing_secret.cache_clear()


def test_a_blocked_run_is_not_quarantined_for_an_edited_verdict(home: MemoryRegistry) -> None:
    """Nor is an image removed because somebody wrote a refusal into the XCom of a gate that passed it."""
    run, _ = judged(home.registry, SPEC, build_plan())
    run.xcoms["gate", -1, "return_value"] |= {"passed": False}
    before = dict(home.tags)
    with pytest.raises(SealBroken):
        run.do(QuarantineOperator(task_id="quarantine"))
    assert home.tags == before
