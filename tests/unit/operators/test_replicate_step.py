from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from delivery_chain.core.names.registry import Registry
from delivery_chain.core.results import RegionResult, TagMove
from delivery_chain.errors import (
    ConfigurationError,
    ContentMismatch,
    DeliveryChainError,
    RegistryUnreachable,
    TagConflict,
    Unauthorized,
    Unjudged,
)
from delivery_chain.oci.client import RegistryClient
from delivery_chain.operators import replicate
from delivery_chain.operators.build import AssembleOperator
from delivery_chain.operators.publish import PublishOperator
from delivery_chain.operators.replicate import ReplicateOperator, TaskState
from delivery_chain.settings import Settings
from support.chain_steps import DAY, NAME, Run, build_plan, chain, image_plan, judged, push_platform, verdict

if TYPE_CHECKING:
    from pathlib import Path

    from support.oci_memory import MemoryRegistry

real_limits = replicate._limits
SPEC = chain(replicate=[{"name": "to-west", "to": "west"}, {"name": "releases", "to": "west", "tags": "v.*"}])
STRICT = chain(replicate=[{"name": "to-west", "to": "west", "override": False}])
OTHER = "sha256:" + "9" * 64
LATER = DAY + timedelta(minutes=1)


def published(home: MemoryRegistry, run_id: str = "r1", spec: Any = SPEC, **fields: Any) -> tuple[Run, str]:
    run, digest = judged(home.registry, spec, build_plan(run_id=run_id, **fields), seed=run_id)
    run.do(PublishOperator(task_id="publish"))
    return run, digest


def pushed(home: MemoryRegistry, tag: str) -> Run:
    """A run about an image that others pushed, after its gate."""
    with RegistryClient(home.registry) as client:
        digest = push_platform(client, image_plan(OTHER, tag), seed="pushed")
    run = Run(SPEC, image_plan(digest, tag, run_id="pushed"))
    run.do(AssembleOperator(task_id="assemble"))
    run.leave("gate", verdict(digest))
    run.do(PublishOperator(task_id="publish"))
    return run


def copied(run: Run, rule: str = "to-west") -> RegionResult:
    slot = [one.name for one in run.spec.replicate].index(rule)
    return RegionResult.from_xcom(run.do(ReplicateOperator(task_id="replicate", slot=slot), slot))


def until_done(run: Run, tries: int = 4) -> RegionResult:
    """As Airflow does: again for errors that say that this may help."""
    for _ in range(tries):
        try:
            return copied(run)
        except DeliveryChainError as error:
            if not error.retryable:
                raise
    raise AssertionError(f"not done after {tries} tries")


def put(held: MemoryRegistry, tag: str, digest: str) -> None:
    held.tags[f"{NAME}:{tag}"] = digest


def test_a_region_gets_all_parts_and_the_tags(home: MemoryRegistry, west: MemoryRegistry) -> None:
    """The index, both platforms and every blob are there byte for byte, under the user's tags alone."""
    run, digest = published(home, "r1", SPEC)
    both, index = judged(home.registry, SPEC, build_plan("linux/amd64", "linux/arm64"), seed="both")
    both.do(PublishOperator(task_id="publish"))
    found = copied(both)
    parts = {f"{NAME}@{index}", *(f"{NAME}@{one['digest']}" for one in both.left("assemble")["images"])}
    assert west.manifests == {key: home.manifests[key] for key in parts}
    assert west.blobs == {key: home.blobs[key] for key in west.blobs}
    assert west.tags == {f"{NAME}:v1.2": index, f"{NAME}:latest": index}
    assert (run.left("publish")["digest"], len(west.blobs)) == (digest, 4)
    assert found == RegionResult(
        rule="to-west",
        region="us-west",
        host=west.registry.host,
        name=NAME,
        digest=index,
        tags=tuple(TagMove(tag=tag, state="moved", digest=index) for tag in ("v1.2", "latest")),
        copied=4,
        skipped=0,
        bytes=sum(map(len, west.blobs.values())),
        seconds=found.seconds,
    )


def test_a_second_copy_sends_nothing(home: MemoryRegistry, west: MemoryRegistry) -> None:
    """What is there is seen to be there."""
    run, digest = published(home)
    copied(run)
    west.requests.clear()
    again = copied(run)
    same = tuple(
        TagMove(tag=t, state="unchanged", digest=digest, previous=digest) for t in ("v1.2", "latest")
    )
    assert (again.tags, again.copied, again.skipped, again.bytes, west.writes()) == (same, 0, 2, 0, [])


def test_a_rule_that_is_not_for_the_image_is_skipped(home: MemoryRegistry, west: MemoryRegistry) -> None:
    """The instance ends as skipped with its reason, and the region is not asked."""
    run, _ = published(home, tags=("latest",))
    with pytest.raises(AirflowSkipException) as caught:
        copied(run, "releases")
    assert (str(caught.value), west.requests) == ("no tag of latest matches 'v.*'", [])


def test_a_rule_copies_its_tags_alone(home: MemoryRegistry, west: MemoryRegistry) -> None:
    """`latest` stays at home where the rule is for releases."""
    run, digest = published(home)
    copied(run, "releases")
    assert west.tags == {f"{NAME}:v1.2": digest}


def test_a_tag_that_a_newer_push_holds_is_not_copied(home: MemoryRegistry, west: MemoryRegistry) -> None:
    """A late run replicates just what it holds at home."""
    published(home, "newer", tags=("latest",), pushed_at=LATER)
    run, digest = published(home, "older")
    assert [move.tag for move in copied(run).tags] == ["v1.2"]
    assert west.tags == {f"{NAME}:v1.2": digest}


@pytest.mark.parametrize(
    ("left", "error"),
    [
        ({"gate": None}, Unjudged),
        ({"gate": verdict(OTHER)}, Unjudged),
        ({"gate": "refused"}, Unjudged),
        ({"publish": None}, ConfigurationError),
    ],
)
def test_without_a_pass_nothing_is_copied(
    home: MemoryRegistry, west: MemoryRegistry, left: dict[str, Any], error: type[DeliveryChainError]
) -> None:
    """A region is not even asked before the gate passed exactly this digest and publish ran."""
    run, digest = published(home)
    for task, value in left.items():
        run.xcoms.pop((task, -1, "return_value"))
        if value is not None:
            run.leave(task, verdict(digest, passed=False) if value == "refused" else value)
    with pytest.raises(error) as caught:
        copied(run)
    assert (type(caught.value), west.requests) == (error, [])


def test_a_home_tag_that_moved_before_the_copy_is_not_set(home: MemoryRegistry, west: MemoryRegistry) -> None:
    """Home's tag is the truth: what it no longer holds is no region's tag."""
    run, digest = published(home, tags=("latest",))
    put(home, "latest", OTHER)
    assert copied(run).tags == (TagMove(tag="latest", state="kept", digest=""),)
    assert (west.tags, f"{NAME}@{digest}" in west.manifests) == ({}, True)


def test_a_home_tag_that_moves_meanwhile_wins(home: MemoryRegistry, west: MemoryRegistry) -> None:
    """The newer push is at the target already: the tag is put to it, whichever run comes last."""
    older, digest = published(home, "older", tags=("latest",))
    newer, wanted = judged(home.registry, SPEC, build_plan(tags=("latest",), pushed_at=LATER, run_id="newer"))

    def overtake() -> None:
        newer.do(PublishOperator(task_id="publish"))
        copied(newer)

    west.on("PUT", "/v2/shop/api/manifests/latest", overtake)
    assert until_done(older).tags[0].digest == wanted != digest
    assert (west.tags, home.user_tags(NAME)) == ({f"{NAME}:latest": wanted}, {"latest": wanted})


@pytest.mark.parametrize("where", ["home", "west"])
def test_two_runs_at_once_end_with_the_newer(home: MemoryRegistry, west: MemoryRegistry, where: str) -> None:
    """Wherever in the older run's copy the newer one is let out and copied, home and region end with the newer."""
    held = {"home": home, "west": west}[where]
    older, _ = judged(home.registry, SPEC, build_plan(tags=("latest",), run_id="older"), seed="older")
    newer, wanted = judged(
        home.registry, SPEC, build_plan(tags=("latest",), run_id="newer", pushed_at=LATER), seed="newer"
    )
    start = dict(home.tags)

    def one(moment: int) -> tuple[int, str, str]:
        home.tags = dict(start)
        for store in (west.tags, west.manifests, west.blobs):
            store.clear()
        older.do(PublishOperator(task_id="publish"))
        left = [moment]

        def count() -> None:
            left[0] -= 1
            if left[0] == -1:
                newer.do(PublishOperator(task_id="publish"))
                until_done(newer)

        held.turns.clear()
        held.on(".*", ".*", count, times=10_000)
        until_done(older)
        held.turns.clear()
        return moment - left[0], home.tags[f"{NAME}:latest"], west.tags[f"{NAME}:latest"]

    requests = one(100_000)[0]
    assert requests > 4
    assert {moment: one(moment)[1:] for moment in range(requests)} == dict.fromkeys(
        range(requests), (wanted, wanted)
    )


def test_a_retry_mends_a_tag_that_its_killed_try_put_back(home: MemoryRegistry, west: MemoryRegistry) -> None:
    """The older run was killed right after it put its tag over the newer one's: its retry puts the newer again."""
    older, old = published(home, "older", tags=("latest",))
    newer, wanted = published(home, "newer", tags=("latest",), pushed_at=LATER)
    copied(newer)
    put(home, "latest", old)
    copied(older)
    put(home, "latest", wanted)
    assert west.tags == {f"{NAME}:latest": old}
    assert copied(older).tags == (TagMove(tag="latest", state="kept", digest=wanted, previous=old),)
    assert west.tags == {f"{NAME}:latest": wanted}


@pytest.mark.parametrize("when", ["before the copy", "right after the tag was put"])
def test_what_others_pushed_meanwhile_is_left_to_its_own_run(
    home: MemoryRegistry, west: MemoryRegistry, when: str
) -> None:
    """Nobody judged it in this run, and the region has it from a time when it passed."""
    refused, old = published(home, "refused", tags=("latest",))
    copied(refused)
    run = pushed(home, "latest")
    west.tags.clear()
    if when == "before the copy":
        put(home, "latest", old)
    else:
        west.on("PUT", "/v2/shop/api/manifests/latest", lambda: put(home, "latest", old), after=True)

    copied(run)

    assert old not in west.tags.values()


def test_without_override_another_image_stays(home: MemoryRegistry, west: MemoryRegistry) -> None:
    """A target tag with another digest is left alone, and the task fails with TAG_CONFLICT for good."""
    first, held = published(home, "first", STRICT, tags=("v1.2",))
    copied(first)
    second, _ = published(home, "second", STRICT, tags=("v1.2",), pushed_at=LATER)
    with pytest.raises(TagConflict, match="TAG_CONFLICT") as caught:
        copied(second)
    assert (caught.value.retryable, west.tags) == (False, {f"{NAME}:v1.2": held})


def test_without_override_a_retry_moves_nothing_either(home: MemoryRegistry, west: MemoryRegistry) -> None:
    """Home moved on after the copy: a region's tag that may not be moved stays, the newer run will say so."""
    first, held = published(home, "first", STRICT, tags=("v1.2",))
    copied(first)
    _, newer = published(home, "second", STRICT, tags=("v1.2",), pushed_at=LATER)
    west.manifests[f"{NAME}@{newer}"] = home.manifests[f"{NAME}@{newer}"]
    assert copied(first).tags == (TagMove(tag="v1.2", state="kept", digest=held, previous=held),)
    assert west.tags == {f"{NAME}:v1.2": held}


@pytest.mark.parametrize(("status", "error"), [(409, TagConflict), (403, Unauthorized)])
def test_a_registry_that_lets_no_tag_move(
    home: MemoryRegistry, west: MemoryRegistry, status: int, error: type[DeliveryChainError]
) -> None:
    """An immutable tag is the registry's own refusal: the task fails for good."""
    run, _ = published(home, tags=("v1.2",))
    west.fail("PUT", "/v2/shop/api/manifests/v1.2", status)
    with pytest.raises(error) as caught:
        copied(run)
    assert (type(caught.value), caught.value.retryable, west.tags) == (error, False, {})


def test_a_tag_that_others_move_at_the_same_moment_is_tried_again(
    home: MemoryRegistry, west: MemoryRegistry
) -> None:
    """Home says that the tag is ours, the target holds another digest right after: the retry puts it right."""
    stranger, strange = published(home, "stranger", tags=("v1.2",))
    copied(stranger)
    run, digest = published(home, "r1", tags=("v1.2",), pushed_at=LATER)
    west.on("PUT", "/v2/shop/api/manifests/v1.2", lambda: put(west, "v1.2", strange), after=True)
    with pytest.raises(ContentMismatch, match="right after") as caught:
        copied(run)
    assert caught.value.retryable
    copied(run)
    assert west.tags == {f"{NAME}:v1.2": digest}


def test_without_override_a_new_tag_is_set(home: MemoryRegistry, west: MemoryRegistry) -> None:
    """A tag that is new, or right already, is no conflict."""
    run, digest = published(home, "r1", STRICT)
    copied(run)
    copied(run)
    assert west.tags == {f"{NAME}:v1.2": digest, f"{NAME}:latest": digest}


def test_a_target_that_loses_a_part_is_not_believed(home: MemoryRegistry, west: MemoryRegistry) -> None:
    """The registry says 201 for the manifest and does not hold it: no tag is set, and a retry sends it again."""
    run, digest = published(home)
    west.fail("PUT", "/v2/shop/api/manifests/sha256:.*", 201, times=1)
    with pytest.raises(ContentMismatch) as caught:
        copied(run)
    assert (caught.value.retryable, west.tags) == (True, {})
    copied(run)
    assert west.tags == {f"{NAME}:v1.2": digest, f"{NAME}:latest": digest}


def test_a_region_that_is_away_leaves_the_others_alone(
    home: MemoryRegistry, west: MemoryRegistry, east: MemoryRegistry
) -> None:
    """One region fails and may be tried again; the other holds the image."""
    spec = chain(replicate=[{"name": "to-west", "to": "west"}, {"name": "to-east", "to": "east"}])
    run, digest = published(home, "r1", spec)
    with west.dying(0), pytest.raises(RegistryUnreachable) as caught:
        copied(run)
    run.do(ReplicateOperator(task_id="replicate", slot=1), 1)
    assert (caught.value.retryable, west.tags) == (True, {})
    assert east.tags == {f"{NAME}:v1.2": digest, f"{NAME}:latest": digest}


@pytest.mark.parametrize("lost_answer", [False, True])
@pytest.mark.parametrize("where", ["home", "west"])
def test_a_kill_at_any_request_ends_the_same(
    home: MemoryRegistry, west: MemoryRegistry, where: str, *, lost_answer: bool
) -> None:
    """Cut off before or after any request, no tag is there too early, and the retry leaves a whole region."""
    held = {"home": home, "west": west}[where]
    run, digest = published(home)
    held.requests.clear()
    copied(run)
    whole, count = (dict(west.tags), dict(west.manifests), dict(west.blobs)), len(held.requests)
    ends = []
    for cut in range(count):
        for store in (west.tags, west.manifests, west.blobs):
            store.clear()
        with held.dying(cut, lost_answer=lost_answer), pytest.raises(DeliveryChainError) as caught:
            copied(run)
        assert caught.value.retryable
        assert not west.tags or set(west.manifests) == set(whole[1])
        ends.append((copied(run).digest, (dict(west.tags), dict(west.manifests), dict(west.blobs))))
    assert count > 2
    assert ends == [(digest, whole)] * count


def test_what_a_region_lost_is_sent_again(home: MemoryRegistry, west: MemoryRegistry) -> None:
    """A region that still has the manifest and lost a blob below it is not taken for one that holds the image."""
    run, _ = published(home)
    copied(run)
    whole = dict(west.blobs)
    del west.blobs[min(west.blobs)]
    assert copied(run).copied == 1
    assert west.blobs == whole


def test_open_uploads_outlive_a_try(home: MemoryRegistry, west: MemoryRegistry) -> None:
    """What a killed try had open is in the task's state for the next; a copy that ends well leaves nothing there."""
    run, _ = published(home)
    context = run.context("replicate", 0)
    TaskState(context).save({"http://west/shop/api@sha256:1": "http://west/v2/shop/api/blobs/uploads/1"})
    assert TaskState(context).load() == {
        "http://west/shop/api@sha256:1": "http://west/v2/shop/api/blobs/uploads/1"
    }
    TaskState(context).save({})
    copied(run)
    assert TaskState(context).load() == {}


@pytest.mark.parametrize("how", ["plain", "of another task"])
def test_addresses_that_somebody_else_wrote_are_not_asked(
    home: MemoryRegistry, west: MemoryRegistry, how: str
) -> None:
    """Airflow's task state can be edited over REST, and requests to these addresses carry the region's login."""
    run, _ = published(home)
    context = run.context("replicate", 0)
    uploads = {
        f"http://{west.registry.host}/{NAME}@{key.rpartition('@')[2]}": "/v2/other/app" for key in home.blobs
    }
    if how == "plain":
        context["task_state_store"].set("uploads", uploads)
    else:
        TaskState(run.context("replicate", 1)).save(uploads)
        run.stores["replicate", 0] = run.stores["replicate", 1]
    assert TaskState(run.context("replicate", 0)).load() == {}
    copied(run)
    assert [request for request in west.requests if "other" in str(request)] == []


def test_replications_share_the_limits_of_their_worker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each is a process of its own; the settings say how hard they may use one registry together."""
    monkeypatch.setenv("AIRFLOW__DELIVERY_CHAIN__WORK_FOLDER", str(tmp_path))
    monkeypatch.setenv("AIRFLOW__DELIVERY_CHAIN__REGISTRY_REQUESTS", "3")
    limits = [real_limits(Settings.load()).of(Registry(host="h")) for _ in range(2)]
    limits[0].busy(60)
    assert [gate.allowed for gate in limits] == [1, 1]
