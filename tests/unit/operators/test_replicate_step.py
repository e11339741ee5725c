"""What a replication copies, and what the region contains afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from delivery_chain.core.names.registry import Registry
from delivery_chain.core.results import RegionResult, TagMove
from delivery_chain.errors import ConfigurationError, DeliveryChainError, TagConflict, Unjudged
from delivery_chain.operators import replicate
from delivery_chain.operators.publish import PublishOperator
from delivery_chain.settings import Settings
from support.chain_steps import NAME, build_plan, chain, judged, verdict
from support.replications import LATER, OTHER, SPEC, copied, published

if TYPE_CHECKING:
    from pathlib import Path

    from support.oci_memory import MemoryRegistry

real_limits = replicate._limits
STRICT = chain(replicate=[{"name": "to-west", "to": "west", "override": False}])


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


def test_without_override_a_new_tag_is_set(home: MemoryRegistry, west: MemoryRegistry) -> None:
    """A tag that is new, or right already, is no conflict."""
    run, digest = published(home, "r1", STRICT)
    copied(run)
    copied(run)
    assert west.tags == {f"{NAME}:v1.2": digest, f"{NAME}:latest": digest}


def test_replications_share_the_limits_of_their_worker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each is a process of its own; the settings say how hard they may use one registry together."""
    monkeypatch.setenv("AIRFLOW__DELIVERY_CHAIN__WORK_FOLDER", str(tmp_path))
    monkeypatch.setenv("AIRFLOW__DELIVERY_CHAIN__REGISTRY_REQUESTS", "3")
    limits = [real_limits(Settings.load()).of(Registry(host="h")) for _ in range(2)]
    limits[0].busy(60)
    assert [gate.allowed for gate in limits] == [1, 1]
