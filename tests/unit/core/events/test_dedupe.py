"""One push, one run: how webhooks and the sensor judge a ref that moves back and forth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from delivery_chain.core.events.dedupe import (
    DOUBT,
    MOST_SIGHTINGS,
    Change,
    Move,
    judge,
    look_at,
)
from delivery_chain.core.events.history import CLOCKS, MOST_REFS, MOST_TEXT, Sighting, Told
from support.dedupe_ref import NOON, Ref, at

if TYPE_CHECKING:
    from datetime import datetime


def told(*moves: tuple[str | None, str], ref: Ref | None = None) -> Ref:
    """A ref with these moves, each reported once by a webhook, a second apart."""
    ref = ref or Ref()
    for number, (before, after) in enumerate(moves):
        ref.hears(before, after, now=at(number), delivery=f"d{number}")
    return ref


@pytest.mark.parametrize(
    ("moves", "built"),
    [
        pytest.param([("", "a")], ["a"], id="a new ref"),
        pytest.param([("", "a"), ("a", "b")], ["a", "b"], id="a push"),
        pytest.param([("", "a"), ("a", "b"), ("b", "a")], ["a", "b", "a"], id="there and back"),
        pytest.param(
            [("", "a"), ("a", "b"), ("b", "a"), ("a", "b")], ["a", "b", "a", "b"], id="the same move twice"
        ),
        pytest.param([("", "a"), ("a", ""), ("", "a")], ["a", "a"], id="deleted and made anew"),
        pytest.param([("x", "a")], ["a"], id="the first that was heard"),
        pytest.param([("", "a"), ("b", "c")], ["a", "c"], id="a move was not told"),
        pytest.param([("", "a"), ("b", "a")], ["a", "a"], id="there and back, half of it told"),
        pytest.param([(None, "a"), (None, "b"), (None, "a")], ["a", "b", "a"], id="a sender without before"),
        pytest.param([(None, "a"), (None, "a")], ["a"], id="the same image again"),
    ],
)
def test_each_push_has_a_run(moves: list[tuple[str | None, str]], built: list[str]) -> None:
    """Webhooks that arrive in order start one run for each push."""
    assert told(*moves).built == built


@pytest.mark.parametrize("again", range(3))
@pytest.mark.parametrize("name", ["d{}", ""], ids=["named", "nameless"])
def test_a_redelivery_makes_no_run(again: int, name: str) -> None:
    """Neither at once nor after newer pushes, whether its sender names deliveries or not."""
    ref, moves = Ref(), [("", "a"), ("a", "b"), ("b", "c")]
    for number in (0, 1, 2, again):
        ref.hears(*moves[number], now=at(number), delivery=name.format(number))
    assert ref.built == ["a", "b", "c"]


def test_a_late_redelivery_does_not_hide_the_next_push() -> None:
    """A -> B -> C, a redelivery of the first move, then C -> A: still one run each."""
    ref = told(("", "a"), ("a", "b"), ("b", "c"))
    ref.hears("a", "b", now=at(50), delivery="d1")
    ref.hears("c", "a", now=at(60), delivery="d9")
    assert ref.built == ["a", "b", "c", "a"]


@pytest.mark.parametrize(
    ("order", "why"),
    [
        pytest.param([0, 1], "", id="in order"),
        pytest.param([1, 0], "it arrived late: a newer push is already known", id="in reverse"),
    ],
)
def test_order_does_not_matter(order: list[int], why: str) -> None:
    """Two moves that overtake each other are two pushes, and the newer one stays the newest."""
    ref = told(("", "a"))
    moves = [("a", "b"), ("b", "c")]
    whys = [ref.hears(*moves[one], now=at(10 + one), delivery=f"m{one}") for one in order]
    assert (sorted(ref.built), ref.history[-1].commit, whys[-1]) == (["a", "b", "c"], "c", why)


def test_two_webhooks_for_one_repository() -> None:
    """Two webhooks report all moves, one of them late: one run for each move."""
    ref = Ref()
    moves = [("", "a"), ("a", "b"), ("b", "a")]
    for teller in ("one", "two"):
        for number, (before, after) in enumerate(moves):
            ref.hears(
                before, after, now=at(10 * len(ref.history)), delivery=f"{teller}{number}", teller=teller
            )
    assert ref.built == ["a", "b", "a"]


def test_the_sensor_finds_what_a_webhook_told() -> None:
    """It makes no second run."""
    ref = Ref()
    ref.looks("a", at(0))
    ref.hears("a", "b", now=at(10), delivery="d")
    ref.looks("b", at(30))
    assert ref.built == ["b"]


def test_a_webhook_tells_what_the_sensor_found() -> None:
    """A delivery that comes after the look makes no second run, also where the sensor missed moves between."""
    ref = Ref()
    ref.looks("a", at(0))
    ref.looks("c", at(30))
    ref.hears("b", "c", now=at(40), delivery="d2")
    assert ref.built == ["c"]
    ref.hears("a", "b", now=at(41), delivery="d1")
    assert (ref.built, ref.history[-1].commit) == (["c", "b"], "c")


def test_the_sensor_finds_what_no_webhook_told() -> None:
    """A push there and back, only the first one reported: the sensor starts the run of the second stay."""
    ref = Ref()
    ref.looks("c", at(0))
    ref.hears("c", "a", now=at(1), delivery="d1")
    ref.hears("a", "b", now=at(2), delivery="d2")
    ref.looks("a", at(30))
    assert ref.built == ["a", "b", "a"]


def test_what_was_told_after_the_look_is_no_evidence() -> None:
    """The ref moved on while the sensor's answer was on its way: the run that is there is the one it saw."""
    ref = Ref()
    ref.hears("x", "a", now=at(10), delivery="d1")
    history = (*ref.history, Sighting(commit="b", before="a", at=at(21)))
    seen = look_at(history, Change(commit="a", previous="x", looked=at(20), since=at(0)))
    assert (seen.since, seen.left) == (at(0) - CLOCKS, at(0) - CLOCKS)


@pytest.mark.parametrize(
    ("known", "watched", "left", "elsewhere"),
    [
        pytest.param(["a", "b"], None, None, ("b",), id="told to be elsewhere"),
        pytest.param(["a", "c", "b"], None, None, ("c", "b"), id="at two places"),
        pytest.param(["a", "b"], "b", at(90), ("b",), id="seen elsewhere"),
        pytest.param(["a", "b"], "", at(90), ("b",), id="seen to be gone"),
        pytest.param(["a", ""], None, at(1), (), id="deleted"),
        pytest.param(["a", "b"], "a", None, ("b",), id="seen where it goes"),
        pytest.param([], None, None, (), id="nothing is known"),
    ],
)
def test_whether_an_image_is_old_is_not_for_webhooks_to_say(
    known: list[str], watched: str | None, left: datetime | None, elsewhere: tuple[str, ...]
) -> None:
    """They may tell an old push again. The sensor's word counts, and a deletion; the registry has the rest."""
    places = ["", *known]
    ref = told(*zip(places, known, strict=False))
    # The last look may be an older one.
    seen = Sighting(commit=watched, before=None, at=at(90)) if watched is not None else None
    move = Move(before=known[-1] if known else "", after="a", teller="hook", delivery_id="new", now=at(100))
    judged = judge(ref.history, move, seen)
    assert (judged.left, judged.elsewhere) == (left, elsewhere)


def test_what_the_sensor_has_from_webhooks_is_their_word() -> None:
    """Both its looks saw the ref where it is; a webhook told of a move in between."""
    ref = told(("", "a"))
    ref.hears("a", "b", now=at(50), delivery="again")
    hearsay = look_at(ref.history, Change(commit="a", previous="b", looked=at(70), since=at(40)))
    seen = look_at(ref.history, Change(commit="a", previous="b", looked=at(99), since=at(80)))
    assert (hearsay.left, hearsay.elsewhere) == (None, ("b",))
    assert (seen.left, seen.elsewhere) == (at(80) - CLOCKS, ("b",))


def test_history_is_bounded() -> None:
    """The newest sightings of each ref are kept, and the most recently reported refs of each source."""
    ref = told(*((str(number), str(number + 1)) for number in range(40)))
    assert [one.commit for one in ref.history] == [
        str(40 - MOST_SIGHTINGS + 1 + n) for n in range(MOST_SIGHTINGS)
    ]
    known = Told()
    for number in range(MOST_REFS + 5):
        sighting = Sighting(commit="a", before="", at=at(number))
        known = known.with_history(f"refs/tags/v{number}", (sighting,))
    assert list(known.refs) == [f"refs/tags/v{number}" for number in range(5, MOST_REFS + 5)]


def test_what_is_kept_has_a_size() -> None:
    """Names and ids come from outside: of too long ones fewer are kept, the newest."""
    known = Told()
    for number in range(MOST_REFS):
        teller = ("h" * 250, "i" * 200)
        seen = tuple(
            Sighting(commit="a" * 64, before="b" * 64, at=at(number), told=(teller,) * 8) for _ in range(8)
        )
        known = known.with_history(f"refs/heads/{number}{'x' * 4000}", seen)
    text = known.to_text()
    kept = Told.read(text).refs
    assert 0 < len(text) <= MOST_TEXT
    assert list(kept) == list(known.refs)[-len(kept) :]


@pytest.mark.parametrize(
    ("delivery", "teller", "later"),
    [("d0", "hook", 3600), ("d0", "hook", 1), ("other", "second hook", 5)],
    ids=["the same delivery", "the same at once", "another webhook's"],
)
@pytest.mark.parametrize("gone", [False, True])
def test_a_redelivery_of_which_airflow_has_no_run_gets_one_in_doubt(
    delivery: str, teller: str, later: float, *, gone: bool
) -> None:
    """Its run was deleted, maybe on its way; the push is no newer for it than when it was first told."""
    told = judge((), Move(before="", after="a", teller="hook", delivery_id="d0", now=NOON))
    move = Move(before="", after="a", teller=teller, delivery_id=delivery, now=at(later))
    again = judge(told.history, move, gone=gone)
    assert (again.fresh, again.why == DOUBT, again.at, again.first) == (
        (True, True, at(later), NOON) if gone else (False, False, None, None)
    )
    assert [one.commit for one in again.history] == ["a"]
