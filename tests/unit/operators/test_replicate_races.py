"""Replications while others move tags, at home or in the region: the newer push takes precedence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from delivery_chain.core.results import TagMove
from delivery_chain.errors import ContentMismatch
from delivery_chain.operators.publish import PublishOperator
from support.chain_steps import NAME, build_plan, judged
from support.replications import LATER, OTHER, SPEC, copied, published, pushed, put, until_done

if TYPE_CHECKING:
    from support.oci_memory import MemoryRegistry


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
