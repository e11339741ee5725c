from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.core.events.announced import MARK
from delivery_chain.core.names.reference import short_digest
from delivery_chain.core.results import DeliveryResult, Published, Quarantined, Record, RegionResult, TagMove
from delivery_chain.errors import DeliveryChainError, NotDelivered
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.referrers import list_referrers
from delivery_chain.operators.publish import PublishOperator
from delivery_chain.operators.report import ReportOperator
from support.chain_steps import (
    COMMIT,
    NAME,
    Run,
    build_plan,
    built,
    chain,
    image_plan,
    judged,
    report_of,
    verdict,
)

if TYPE_CHECKING:
    from support.oci_memory import MemoryRegistry

SPEC = chain(
    replicate=[{"name": "to-west", "to": "west"}, {"name": "to-east", "to": "east"}],
    distribute=[{"name": "prod", "url_connection": "prod_hook"}],
)
DIGEST = "sha256:" + "9" * 64
OTHER = "sha256:" + "8" * 64
DONE = {
    "plan": "success",
    "gate": "success",
    "publish": "success",
    "replicate_0": "success",
    "replicate_1": "success",
    "distribute_0": "success",
}


def region(name: str, digest: str = DIGEST) -> RegionResult:
    return RegionResult(
        rule=f"to-{name}",
        region=name,
        host=f"{name}.example.com",
        name=NAME,
        digest=digest,
        tags=(),
        copied=1,
        skipped=0,
        bytes=1,
        seconds=1.0,
    )


def at_end(states: dict[str, str], *regions: str, judged: str = "passed", held: str = DIGEST) -> Run:
    """A run about an image that others pushed, so that nothing has to be cleaned, with what its tasks left."""
    run = Run(SPEC, image_plan(DIGEST, "v7"), states=states)
    run.leave("assemble", {"digest": DIGEST, "media_type": "m", "size": 1})
    if judged:
        run.leave("gate", verdict(DIGEST, passed=judged == "passed", counts={"high": 0, "low": 2}))
    if held:
        run.leave("publish", Published(digest=DIGEST, tags=(TagMove(tag="v7", state="kept", digest=held),)))
    for index, name in enumerate(regions):
        run.leave("replicate", region(name), index)
    if states.get("distribute_0") == "success":
        told = DeliveryResult(trigger="prod", url="https://t", digest=DIGEST, delivered=("v7",), attempts=())
        run.leave("distribute", told, 0)
    return run


TITLE = f"{NAME} v7 at {short_digest(DIGEST)}"
LOST = "it left no reason: it was marked by hand, or its worker was lost"
PARTLY = (
    f"partly delivered: {TITLE} passed with 2 low, published, copied to west; NOT DONE: to-east failed, prod failed; "
    f"replicate [to-east]: {LOST}; distribute [prod]: {LOST}"
)


@pytest.mark.parametrize(
    ("run", "end", "step", "sentence"),
    [
        (
            at_end(DONE, "west", "east"),
            "delivered",
            "",
            f"delivered: {TITLE} passed with 2 low, published, copied to west and east, 1 trigger fired",
        ),
        (
            at_end(DONE | {"replicate_1": "failed", "distribute_0": "failed"}, "west"),
            "partly delivered",
            "replicate [to-east]",
            PARTLY,
        ),
        (
            at_end(DONE | {"replicate_0": "skipped", "replicate_1": "skipped"}, held=OTHER),
            "superseded",
            "",
            f"superseded: {TITLE} passed with 2 low, a newer push holds its tags",
        ),
        (
            at_end({"gate": "failed"}, judged="", held=""),
            "failed",
            "gate",
            f"failed in gate: {LOST}; {TITLE} was not published",
        ),
        (
            at_end({"publish": "failed"}, held=""),
            "failed",
            "publish",
            f"failed in publish: {LOST}; {TITLE} may have some of its tags",
        ),
        (
            at_end({"denied": "failed"}, judged="blocked", held=""),
            "blocked",
            "gate",
            f"blocked: 1 finding at or above high (limit 1); {TITLE}",
        ),
    ],
)
def test_each_end_has_its_record(run: Run, end: str, step: str, sentence: str) -> None:
    """It says what became of the image: from what the tasks left, not from states alone."""
    found = report_of(run)
    assert (found.end, found.step, found.sentence) == (end, step, sentence)


@pytest.mark.parametrize(
    ("run", "marks"),
    [
        (at_end(DONE, "west", "east"), 1),
        (at_end(DONE | {"replicate_1": "failed", "distribute_0": "failed"}, "west"), 0),
        (at_end({"denied": "failed"}, judged="blocked", held=""), 0),
    ],
)
def test_just_a_delivered_image_is_marked(home: MemoryRegistry, run: Run, marks: int) -> None:
    """Whatever is missing is to be done when the push is told again."""
    report_of(run)
    with RegistryClient(home.registry) as client:
        assert len(list_referrers(client, NAME, DIGEST, artifact_type=MARK)) == marks


def test_the_report_of_a_delivered_run_is_green() -> None:
    """Its state is the run's."""
    run = at_end(DONE, "west", "east")
    assert run.do(ReportOperator(task_id="report"))["end"] == "delivered"


@pytest.mark.parametrize(
    "run",
    [
        at_end(DONE | {"replicate_1": "failed"}, "west"),
        at_end({"denied": "failed"}, judged="blocked", held=""),
        at_end({"gate": "failed"}, judged="", held=""),
    ],
)
def test_the_report_fails_where_the_run_did_not_do_what_it_should(run: Run) -> None:
    """What it says is in its record and in its error, which no retry mends."""
    with pytest.raises(NotDelivered) as caught:
        run.do(ReportOperator(task_id="report"))
    assert (str(caught.value), caught.value.retryable) == (run.left("report")["sentence"], False)


def test_a_reason_is_in_the_sentence() -> None:
    """The failed step's own first line, under its seal; one that somebody wrote there is not taken."""
    run = at_end({"gate": "failed", "scan_0": "failed"}, judged="", held="")
    run.say("scan", "the database is 9 days old", "ScanFailed", 0)
    run.say("gate", "x", "ScanFailed")
    run.xcoms["gate", -1, "reason"] |= {"reason": "all is well"}
    assert report_of(run).sentence == (
        f"failed in scan [linux/amd64]: the database is 9 days old; gate: {LOST}; {TITLE} was not published"
    )


def test_a_blocked_image_that_was_backed_up_says_where() -> None:
    """People find it again."""
    run = at_end({"denied": "failed"}, judged="blocked", held="")
    run.leave("quarantine", Quarantined(digest=DIGEST, backup="home/shop-quarantine/api:v7.x"))
    assert report_of(run).sentence.endswith(f"(limit 1); {TITLE}; kept as home/shop-quarantine/api:v7.x")


@pytest.mark.parametrize(
    ("state", "error", "end", "sentence"),
    [
        ("skipped", "Superseded", "superseded", "superseded: why"),
        ("skipped", "skipped", "not for this chain", "not for this chain: why"),
        ("failed", "EventRefused", "refused", "refused: why"),
        ("failed", "SourceError", "failed", "failed in plan: why; nothing was built"),
        ("failed", "", "failed", f"failed in plan: {LOST}; nothing was built"),
        ("skipped", "", "cancelled", "cancelled in plan; nothing was built"),
    ],
)
def test_a_run_without_a_plan(state: str, error: str, end: str, sentence: str) -> None:
    """It has a record too."""
    run = Run(SPEC, states={"plan": state})
    if error:
        run.say("plan", "why", error)
    step = "" if end in {"superseded", "not for this chain"} else "plan"
    assert report_of(run) == Record(chain="shop", image="", tags=(), end=end, step=step, sentence=sentence)


def test_a_record_is_the_run_in_one_value(home: MemoryRegistry) -> None:
    """Image, tags, digest, verdict, source, regions and triggers by name, and what was cleaned up."""
    plan = build_plan()
    run, digest = judged(home.registry, SPEC, plan)
    run.states = DONE | {"replicate_1": "failed", "distribute_0": "failed"}
    run.say("replicate", "its tag is taken", "TagConflict", 1)
    run.say("distribute", "it waits for to-east", "ConfigurationError", 0)
    run.do(PublishOperator(task_id="publish"))
    run.leave("replicate", region("west", digest), 0)
    found = report_of(run)
    assert found == Record(
        chain="shop",
        image=NAME,
        tags=("v1.2", "latest"),
        digest=digest,
        verdict="passed with no findings",
        end="partly delivered",
        step="replicate [to-east]",
        sentence=f"partly delivered: {NAME} v1.2, latest at {short_digest(digest)} passed with no findings, published, "
        "copied to west; NOT DONE: to-east failed, prod failed; replicate [to-east]: its tag is taken; "
        "distribute [prod]: it waits for to-east",
        commit=COMMIT,
        ref="refs/tags/v1.2",
        regions={"to-west": "success", "to-east": "failed"},
        triggers={"prod": "failed"},
        removed_staging=(f"{plan.staging()}-linux-amd64", plan.staging()),
    )
    assert home.tags == {f"{NAME}:v1.2": digest, f"{NAME}:latest": digest}


@pytest.mark.parametrize("platforms", [("linux/amd64",), ("linux/amd64", "linux/arm64")])
def test_a_failed_run_leaves_no_staging_tag(home: MemoryRegistry, platforms: tuple[str, ...]) -> None:
    """Wherever it ended, the tags of the run go; those of other runs stay."""
    built(home.registry, SPEC, build_plan(run_id="other"))
    others = dict(home.tags)
    run, _ = built(home.registry, SPEC, build_plan(*platforms))
    run.states = {"gate": "failed"}
    found = report_of(run)
    assert (len(found.removed_staging), home.tags) == (len(platforms) + 1, others)


def test_a_build_that_failed_half_way_is_cleaned(home: MemoryRegistry) -> None:
    """Only the tags that are there are removed and named."""
    plan = build_plan("linux/amd64", "linux/arm64")
    run, _ = built(home.registry, SPEC, plan)
    for tag in (f"{plan.staging()}-linux-arm64", plan.staging()):
        del home.tags[f"{NAME}:{tag}"]
    run.states = {"build_1": "failed"}
    del run.xcoms["assemble", -1, "return_value"]
    found = report_of(run)
    assert (found.removed_staging, home.tags) == ((f"{plan.staging()}-linux-amd64",), {})


@pytest.mark.parametrize(
    ("quarantined", "cleaned"),
    [
        (Quarantined(digest=DIGEST, kept="home/shop/api:_staging-x"), False),
        (None, False),
        (Quarantined(digest=DIGEST, deleted=("x",)), True),
        (Quarantined(digest=DIGEST, backup="home/shop-quarantine/api:x", deleted=("x",)), True),
    ],
)
def test_a_blocked_image_stays_until_its_quarantine_is_done(
    home: MemoryRegistry, quarantined: Quarantined | None, *, cleaned: bool
) -> None:
    """The rule may keep it under its staging tag; and a quarantine that failed can be cleared and finds the image."""
    run, _ = judged(home.registry, SPEC, build_plan(), passed=False)
    staged = dict(home.tags)
    if quarantined:
        run.leave("quarantine", quarantined)
    found = report_of(run)
    assert (bool(found.removed_staging), home.tags) == (cleaned, {} if cleaned else staged)


def test_deletes_that_are_off_fail_no_run(home: MemoryRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    """The staging tags stay as they are, no stand-in among them, and one line says what to do."""
    run, _ = judged(home.registry, SPEC, build_plan())
    run.do(PublishOperator(task_id="publish"))
    before = dict(home.tags)
    home.deletes = home.deletes_tags = False
    assert (report_of(run).removed_staging, home.tags) == ((), before)
    assert capsys.readouterr().out.count("REGISTRY_STORAGE_DELETE_ENABLED=true") == 1


def test_a_blocked_image_that_others_pushed_is_said_to_be_there() -> None:
    """Nobody takes the note for a promise that it is gone."""
    run = at_end({"denied": "failed"}, judged="blocked", held="")
    run.leave("quarantine", Quarantined(digest=DIGEST, kept="home/shop/api:v7@x, home/shop/api:prod@x"))
    assert report_of(run).sentence.endswith("; still there as home/shop/api:v7@x, home/shop/api:prod@x")


def test_an_image_of_others_is_not_cleaned(home: MemoryRegistry) -> None:
    """There is nothing of the run's in the registry, which is not even asked."""
    run = at_end(DONE)
    assert (report_of(run).removed_staging, home.requests) == ((), [])


@pytest.mark.parametrize("deletes_tags", [False, True])
@pytest.mark.parametrize("lost_answer", [False, True])
def test_a_kill_at_any_request_ends_the_same(
    home: MemoryRegistry, *, deletes_tags: bool, lost_answer: bool
) -> None:
    """Cut off before or after any request, the next try leaves the user's tags, and nothing of the run's."""
    home.deletes_tags = deletes_tags
    run, digest = judged(home.registry, SPEC, build_plan())
    run.do(PublishOperator(task_id="publish"))
    start = (dict(home.tags), dict(home.manifests), dict(home.blobs))
    home.requests.clear()
    report_of(run)
    count = len(home.requests)
    ends = []
    for cut in range(count):
        home.tags, home.manifests, home.blobs = (dict(one) for one in start)
        with home.dying(cut, lost_answer=lost_answer), pytest.raises(DeliveryChainError) as caught:
            report_of(run)
        assert caught.value.retryable
        report_of(run)
        ends.append((dict(home.tags), set(home.manifests)))
    wanted: tuple[Any, Any] = ({f"{NAME}:v1.2": digest, f"{NAME}:latest": digest}, {f"{NAME}@{digest}"})
    assert count > 6
    assert ends == [wanted] * count
