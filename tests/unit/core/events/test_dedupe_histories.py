"""Pushes that are reported late, twice, or after their runs were deleted: no tag moves back to an older push."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st

from delivery_chain.core.events.built import (
    COMMIT,
)
from support.dedupe_chain import MAIN, V1, V2, V3, A, B, C, Chain

ACTIONS = st.one_of(
    st.tuples(st.just("release"), st.integers(0, 2)),
    st.tuples(st.just("push"), st.sampled_from([A, B, C])),
    st.tuples(st.just("tell"), st.integers(0, 9)),
    st.tuples(st.just("tell again"), st.integers(0, 9)),
    st.tuples(st.just("other hook"), st.integers(0, 9)),
    st.tuples(st.sampled_from(["look", "clean", "all told again"]), st.just(0)),
    st.tuples(st.sampled_from(["work", "work", "work", "cancel", "clear", "by hand"]), st.integers(0, 9)),
    st.tuples(st.just("older"), st.sampled_from([A, B, C])),
)


def play(  # noqa: C901, PLR0912 - a table
    actions: list[tuple[str, Any]], *, forget: bool = False, shop: Chain | None = None
) -> Chain:
    """A chain after what happened to it, a while between each two."""
    shop = shop or Chain()
    for what, which in actions:
        shop.now += timedelta(seconds=47)
        moves, runs = len(shop.moves), len(shop.runs)
        if what == "release" and (V1, V2, V3)[which] not in shop.refs:
            shop.push((V1, V2, V3)[which], "def"[which] * 40)
        elif what == "push" and shop.refs.get(MAIN) != which:
            shop.push(MAIN, which)
        elif what == "tell" and moves:
            shop.tell(which % moves, delivery=f"d{which % moves}")
        elif what == "tell again" and moves:
            shop.tell(which % moves)
        elif what == "other hook" and moves:
            shop.tell(which % moves, teller="other", delivery=f"o{which % moves}")
        elif what == "all told again":
            for move in range(moves):
                shop.tell(move)
        elif what == "look":
            shop.look()
        elif what == "settle and clean":
            shop.settle()
            shop.clean(forget=forget)
        elif what == "clean":
            shop.clean(forget=forget)
        elif what == "work" and runs:
            shop.work(shop.runs[which % runs])
        elif what == "cancel" and runs:
            shop.runs[which % runs].ended = True
        elif what == "clear" and runs:
            run = shop.runs[which % runs]
            run.plan, run.ended = None, False
        elif what == "by hand" and shop.refs:
            ref = sorted(shop.refs)[which % len(shop.refs)]
            shop.sighted.setdefault((ref, shop.refs[ref]), shop.now)
            shop.by_hand(ref)
        elif what == "older" and MAIN in shop.refs and (MAIN, which) in [one[::2] for one in shop.moves]:
            shop.by_hand(MAIN, which)
    return shop


@settings(max_examples=400, deadline=None)
@given(st.lists(ACTIONS, max_size=40), st.booleans())
def test_latest_never_goes_back(actions: list[tuple[str, Any]], forget: bool) -> None:  # noqa: FBT001 - Hypothesis'
    """Whatever is told, forgotten, cancelled, cleared and built again: never from a release to one seen before it."""
    shop = play(actions, forget=forget)
    note(f"{len(shop.latest)} moves")
    assert shop.latest == sorted(shop.latest)
    shop.settle()
    assert shop.latest == sorted(shop.latest)


@pytest.mark.parametrize("forgotten", ["runs", "what webhooks told, too", "what the sensor saw, too"])
def test_nothing_is_built_that_was_built_before(forgotten: str) -> None:
    """Releases and pushes are out; their runs are forgotten, and all is told again under new ids, twice."""
    shop = Chain()
    for number, (ref, commit) in enumerate(
        [(V1, "d" * 40), (MAIN, A), (V2, "e" * 40), (MAIN, B), (V3, "f" * 40)]
    ):
        shop.now += timedelta(seconds=200)
        shop.push(ref, commit)
        shop.tell(number)
        shop.settle()
    before, built = dict(shop.tags), shop.images
    for _ in range(2):
        shop.runs.clear()
        if forgotten != "runs":
            shop.told.clear()
        if forgotten == "what the sensor saw, too":
            # Its next look is a first one, which starts nothing.
            shop.cursor = dict(shop.refs), shop.now
        for move in range(len(shop.moves)):
            shop.now += timedelta(seconds=3)
            shop.tell(move)
        shop.settle()
    assert (shop.images, shop.tags) == (built, before) == (5, before)


PUSHES = st.lists(
    st.one_of(
        st.tuples(st.just("release"), st.integers(0, 2)),
        st.tuples(st.just("push"), st.sampled_from([A, B, C])),
    ),
    max_size=8,
)
AGAIN = st.lists(st.one_of(st.integers(0, 9), st.sampled_from(["look", "settle"])), max_size=12)


@settings(max_examples=400, deadline=None)
@given(PUSHES, AGAIN, st.sampled_from(["runs", "told", "seen"]))
def test_whatever_is_told_again_builds_nothing(
    pushes: list[tuple[str, Any]], again: list[Any], forgotten: str
) -> None:
    """Everything is out and forgotten; then old moves are told under new ids, some of them, in whatever order."""
    shop = Chain()
    for push in pushes:
        before = len(shop.moves)
        shop = play([push], shop=shop)
        for move in range(before, len(shop.moves)):
            shop.tell(move)
        shop.settle()
    built, tags = shop.images, dict(shop.tags)
    shop.runs.clear()
    if forgotten != "runs":
        shop.told.clear()
    if forgotten == "seen":
        shop.cursor = dict(shop.refs), shop.now
    for what in again:
        shop.now += timedelta(seconds=3)
        if what == "look":
            shop.look()
        elif what == "settle":
            shop.settle()
        elif shop.moves:
            shop.tell(what % len(shop.moves))
    shop.settle()
    assert (shop.images, shop.tags) == (built, tags)


WITHOUT_HARM = ACTIONS.filter(lambda action: action[0] not in {"cancel", "clean"})


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(WITHOUT_HARM, st.just(("settle and clean", 0))), max_size=40), st.booleans())
def test_a_tag_ends_where_its_branch_is(actions: list[tuple[str, Any]], forget: bool) -> None:  # noqa: FBT001
    """Told late, twice, by two webhooks or by none: the branch's tag holds its last commit, and so do the releases'."""
    shop = play(actions, forget=forget)
    shop.settle()
    held = {tag: said[COMMIT] for tag, (_, said) in shop.tags.items()}
    expected = {"edge": shop.refs[MAIN]} if MAIN in shop.refs else {}
    expected |= {ref.removeprefix("refs/tags/"): commit for ref, commit in shop.refs.items() if ref != MAIN}
    assert {tag: held.get(tag) for tag in expected} == expected
