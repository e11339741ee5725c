from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.core.reference import short_digest
from delivery_chain.core.results import Published, Quarantined, Record, RegionResult, TagMove
from delivery_chain.errors import DeliveryChainError
from delivery_chain.operators.publish import PublishOperator
from delivery_chain.operators.report import ReportOperator
from support.chain_steps import COMMIT, NAME, Run, build_plan, built, chain, image_plan, judged, verdict

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


def report(run: Run) -> Record:
    return Record.from_xcom(run.do(ReportOperator(task_id="report")))


def region(name: str) -> RegionResult:
    return RegionResult(
        rule=f"to-{name}",
        region=name,
        host=f"{name}.example.com",
        name=NAME,
        digest=DIGEST,
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
    return run


@pytest.mark.parametrize(
    ("run", "sentence"),
    [
        (
            at_end(DONE, "west", "east"),
            "passed with 2 low, published, copied to west and east, 1 trigger fired",
        ),
        (
            at_end(DONE | {"replicate_0": "skipped", "replicate_1": "skipped", "distribute_0": "skipped"}),
            "passed with 2 low, published",
        ),
        (
            at_end(DONE | {"replicate_1": "failed", "distribute_0": "failed"}, "west"),
            "passed with 2 low, published, copied to west; NOT DONE: to-east failed, prod failed",
        ),
        (
            at_end(DONE | {"replicate_0": "upstream_failed"}, "east"),
            "passed with 2 low, published, copied to east, 1 trigger fired; NOT DONE: to-west upstream_failed",
        ),
        (
            at_end(
                DONE | {"replicate_0": "skipped", "replicate_1": "skipped", "distribute_0": "skipped"},
                held=OTHER,
            ),
            "passed with 2 low, a newer push holds its tags",
        ),
        (at_end({"gate": "failed"}, judged="", held=""), "failed in gate; nothing was published"),
        (
            at_end({"scan_0": "failed", "scan_1": "success"}, judged="", held=""),
            "failed in scan [linux/amd64]; nothing was published",
        ),
        (at_end({"gate": "success"}, judged="", held=""), "failed in no task; nothing was published"),
        # The worker was killed after the verdict was left and before the task ended.
        (at_end({"gate": "failed"}, held=""), "failed in gate; nothing was published"),
        (at_end({"publish": "failed"}, held=""), "failed in publish; its tags may be there in part"),
        (
            at_end({"denied": "failed"}, judged="blocked", held=""),
            "blocked: 1 finding at or above high (limit 1)",
        ),
    ],
)
def test_each_end_has_its_sentence(run: Run, sentence: str) -> None:
    """The run's note says what became of the image: from what the tasks left, not from states alone."""
    found = report(run)
    assert found.sentence == f"{NAME} v7 at {short_digest(DIGEST)} {sentence}"


def test_a_blocked_image_that_was_backed_up_says_where() -> None:
    """People find it again."""
    run = at_end({"denied": "failed"}, judged="blocked", held="")
    run.leave("quarantine", Quarantined(digest=DIGEST, backup="home/shop-quarantine/api:v7.x"))
    assert report(run).sentence.endswith("(limit 1); kept as home/shop-quarantine/api:v7.x")


@pytest.mark.parametrize(
    ("states", "sentence"),
    [
        ({"plan": "skipped"}, "superseded by a newer push, or not for this chain"),
        ({"plan": "failed"}, "no plan was made: task plan is failed, its log says why"),
        ({}, "no plan was made: task plan is unknown, its log says why"),
    ],
)
def test_a_run_without_a_plan(states: dict[str, str], sentence: str) -> None:
    """It has a record too."""
    assert report(Run(SPEC, states=states)) == Record(chain="shop", image="", tags=(), sentence=sentence)


def test_a_record_is_the_run_in_one_value(home: MemoryRegistry) -> None:
    """Image, tags, digest, verdict, source, regions and triggers by name, and what was cleaned up."""
    plan = build_plan()
    run, digest = judged(home.registry, SPEC, plan)
    run.states = DONE | {"replicate_1": "failed"}
    run.do(PublishOperator(task_id="publish"))
    run.leave("replicate", region("west"), 0)
    found = report(run)
    assert found == Record(
        chain="shop",
        image=NAME,
        tags=("v1.2", "latest"),
        digest=digest,
        verdict="passed with no findings",
        sentence=f"{NAME} v1.2, latest at {short_digest(digest)} passed with no findings, published, "
        "copied to west, 1 trigger fired; NOT DONE: to-east failed",
        commit=COMMIT,
        ref="refs/tags/v1.2",
        regions={"to-west": "success", "to-east": "failed"},
        triggers={"prod": "success"},
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
    found = report(run)
    assert (len(found.removed_staging), home.tags) == (len(platforms) + 1, others)


def test_a_build_that_failed_half_way_is_cleaned(home: MemoryRegistry) -> None:
    """Only the tags that are there are removed and named."""
    plan = build_plan("linux/amd64", "linux/arm64")
    run, _ = built(home.registry, SPEC, plan)
    for tag in (f"{plan.staging()}-linux-arm64", plan.staging()):
        del home.tags[f"{NAME}:{tag}"]
    run.states = {"build_1": "failed"}
    del run.xcoms["assemble", -1, "return_value"]
    found = report(run)
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
    found = report(run)
    assert (bool(found.removed_staging), home.tags) == (cleaned, {} if cleaned else staged)


def test_deletes_that_are_off_fail_no_run(home: MemoryRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    """The staging tags stay as they are, no stand-in among them, and one line says what to do."""
    run, _ = judged(home.registry, SPEC, build_plan())
    run.do(PublishOperator(task_id="publish"))
    before = dict(home.tags)
    home.deletes = home.deletes_tags = False
    assert (report(run).removed_staging, home.tags) == ((), before)
    assert capsys.readouterr().out.count("REGISTRY_STORAGE_DELETE_ENABLED=true") == 1


def test_a_blocked_image_that_others_pushed_is_said_to_be_there() -> None:
    """Nobody takes the note for a promise that it is gone."""
    run = at_end({"denied": "failed"}, judged="blocked", held="")
    run.leave("quarantine", Quarantined(digest=DIGEST, kept="home/shop/api:v7@x, home/shop/api:prod@x"))
    assert report(run).sentence.endswith("; still there as home/shop/api:v7@x, home/shop/api:prod@x")


def test_an_image_of_others_is_not_cleaned(home: MemoryRegistry) -> None:
    """There is nothing of the run's in the registry, which is not even asked."""
    run = at_end(DONE)
    assert (report(run).removed_staging, home.requests) == ((), [])


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
    report(run)
    count = len(home.requests)
    ends = []
    for cut in range(count):
        home.tags, home.manifests, home.blobs = (dict(one) for one in start)
        home.dead_from, home.lost_answer = cut, lost_answer
        with pytest.raises(DeliveryChainError) as caught:
            report(run)
        home.dead_from = None
        assert caught.value.retryable
        report(run)
        ends.append((dict(home.tags), set(home.manifests)))
    wanted: tuple[Any, Any] = ({f"{NAME}:v1.2": digest, f"{NAME}:latest": digest}, {f"{NAME}@{digest}"})
    assert count > 6
    assert ends == [wanted] * count
