"""One push, one run: which of a ref's stays at a commit a notification is about. Pure.

A ref moves A -> B -> A: three stays, three runs. Webhooks tell the moves: twice, late, out of order, or never. The
sensor sees where the ref is now and then, and never the moves in between. Both number a ref's stays at one commit
alike, and the number is in the run's id, so that what both saw is one run:

    a run for this ref and commit, made since the ref was last known to be elsewhere, is this very push.

`judge` finds that time for a webhook, `look_at` for the sensor; `choose` picks the stay. A notification that fits
nowhere into what is known makes no run where the sensor has one of that commit; else it makes one, which builds nothing
if it finds its ref elsewhere.

Where it is in doubt whether a push is told again, it gets a run: that asks the registry whether the push was built, see
`delivery_chain.core.events.built`. A run too many is skipped, a push without one would be lost.

What was forgotten may be told again from its beginning, and looks then as if the ref were elsewhere. So the word of a
webhook makes a run, and no image an old one: whether the ref truly was elsewhere is for the registry to say, too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from delivery_chain.core.events.history import CLOCKS, History, Sighting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MOST_SIGHTINGS = 8
"""What is remembered of one ref. A redelivery of an older push is told by its run."""
MOST_TOLD = 8
OVERTAKEN = timedelta(seconds=60)
"""A notification that comes later than another one by more than this was not overtaken by it: its move is newer."""
SUPERSEDED = datetime.min.replace(tzinfo=UTC)
"""Stands for the time of a run that is not the push's, though its number is taken: one that found its ref elsewhere
before the sensor looked, or one that somebody else started under the id."""
AGAIN = "this delivery came before"
ANOTHER = "another webhook told it before"
REPLAYED = "a replay of a push that was taken before"
LATE = "it came late: a newer push is known already"
DOUBT = "maybe told again: its run finds out whether it was built"
SENSED = "the sensor saw it first"
LOST = "moves before it were not told"
_BEFORE = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A notification's word that a ref moved."""

    before: str | None
    after: str
    teller: str
    """Which webhook; two of them may report the same move."""
    delivery_id: str
    """Empty where the sender gives none."""
    now: datetime
    pushed_at: datetime | None = None
    """When, by the sender's clock, where it says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What the sensor sees: a ref that is elsewhere than it was."""

    commit: str
    previous: str | None
    looked: datetime
    """When the look at it began."""
    since: datetime | None
    """When the last look began that saw it elsewhere; None if there was none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Whether a move or change is a push of its own, and what is known of its ref."""

    history: History
    """What is known from now on."""
    fresh: bool
    """Whether it is a push that was not known."""
    why: str
    """For people; of a fresh one only where something is odd."""
    since: datetime | None = None
    """When the ref was last known to be elsewhere, by which its runs are told apart; None for never."""
    left: datetime | None = None
    """When the sensor last saw it elsewhere, or it was deleted, by which its images are told apart; None for never."""
    elsewhere: tuple[str, ...] = ()
    """Other commits or digests that webhooks reported the ref at: the registry knows what came of them."""
    at: datetime | None = None
    """When a fresh push was seen; of one that came late, when it must have been."""
    first: datetime | None = None
    """When the ref was first known to be where it goes, since it was elsewhere: `at`, or earlier where in doubt."""
    gone: bool = False
    """Whether it is fresh just because a run of it was deleted: those that are there stand."""


def judge(
    history: History,
    move: Move,
    watched: Sighting | None = None,
    sensed: datetime | None = None,
    *,
    gone: bool = False,
) -> Judgement:
    """Tell a push from a redelivery.

    Args:
        history: Earlier moves of this ref, as webhooks reported them.
        move: The one that is reported now.
        watched: Where the sensor saw the ref last, if it did.
        sensed: When the sensor saw the ref come to where the move ends, as the newest run says that it made of it.
        gone: Whether a chain has no run of where the move ends (any more): a redelivery then gets one in doubt.
    """
    judged = _judged(history, move, watched, sensed)
    known = [one for one in history if one.commit == move.after]
    if gone and known and not judged.fresh:
        judged = replace(_doubt(history, _view(history, watched), known[-1], move), gone=True)
    if watched is None or not judged.fresh or watched.commit == move.after:
        return judged
    return replace(judged, left=_latest(judged.left, watched.at))


def _judged(history: History, move: Move, watched: Sighting | None, sensed: datetime | None) -> Judgement:
    view = _view(history, watched)
    if (told := _told(history, view, move)) is not None:
        return told
    last = view[-1] if view else None
    if last is None or (move.before is not None and move.before == last.commit):
        return _fresh(history, view, move, since=_in_doubt(view, move.after))
    if last.commit == move.after and (last.before is None or move.before is None):
        return _there(history, view, move)
    if known := [one for one in history if _same(one, move)]:
        if not move.delivery_id:
            return Judgement(history=history, fresh=False, why=REPLAYED)
        # A notification of the same move, which does not begin where the ref is: it may have been made twice.
        return _doubt(history, view, known[-1], move)
    return _sensed(history, view, move, sensed) or _out_of_order(history, view, move)


def look_at(history: History, change: Change) -> Judgement:
    """What is known of a push that the sensor sees. It is always a fresh one: its runs show whether it was reported.

    Args:
        history: Moves of its ref, as webhooks reported them.
        change: What the sensor sees. A move that was reported after its look began may be newer than the look.
    """
    before = change.looked - CLOCKS
    known = tuple(one for one in history if one.at <= before)
    looked = change.since - CLOCKS if change.since else None
    # The last look saw it where it is now, and a webhook told of a move in between.
    hearsay = any(one.commit == change.previous and looked and one.at > looked for one in history)
    again = [one.again for one in known if one.commit != change.commit and one.again and one.again <= before]
    told = _latest(_elsewhere(known, change.commit), looked)
    return Judgement(
        history=history,
        fresh=True,
        why="",
        since=_latest(told, *again),
        left=_latest(_surely_elsewhere(known, change.commit), None if hearsay else looked),
        elsewhere=elsewhere(history, change.commit),
        first=first_at(history, change.commit, told),
    )


def _latest(*times: datetime | None) -> datetime | None:
    return max((time for time in times if time), default=None)


def elsewhere(history: History, commit: str) -> tuple[str, ...]:
    """Commits or digests other than one that webhooks reported the ref at, each once."""
    return tuple(dict.fromkeys(one.commit for one in history if one.told and one.commit not in ("", commit)))


def first_at(history: History, commit: str, left: datetime | None) -> datetime | None:
    """When the ref was first known to be at a commit, since it was elsewhere; None where that was never reported."""
    times = (one.at for one in history if one.commit == commit and one.at > (left or SUPERSEDED))
    return min(times, default=None)


def choose(made: Mapping[int, datetime], since: datetime | None) -> tuple[int, bool]:
    """The number of a stay, counted from 1, and whether its run is there already.

    Args:
        made: The runs of this ref and commit: number to the time of the push, or `SUPERSEDED`.
        since: When the ref was last known to be elsewhere; None for never.
    """
    visit = 1
    while visit in made:
        if made[visit] > (since or SUPERSEDED):
            return visit, True
        visit += 1
    return visit, False


def _same(one: Sighting, move: Move) -> bool:
    return move.before is not None and (one.before, one.commit) == (move.before, move.after)


def _told(history: History, view: History, move: Move) -> Judgement | None:
    """The same delivery again, or the same move by another webhook; None if it is neither."""
    told = (move.teller, move.delivery_id)
    if move.delivery_id and any(told in one.told for one in history):
        return Judgement(history=history, fresh=False, why=AGAIN)
    for one in history:
        if not _same(one, move):
            continue
        if one.said and one.said == move.pushed_at:
            return _known(history, one, told, AGAIN)
        by_others = one.told and all(teller != move.teller for teller, _ in one.told)
        if by_others:
            # Long after it may be another push, of which this webhook alone tells.
            soon = move.now - one.at <= OVERTAKEN
            return _known(history, one, told, ANOTHER) if soon else _doubt(history, view, one, move)
    return None


def _view(history: History, watched: Sighting | None) -> History:
    if watched is None or (history and history[-1].commit == watched.commit):
        return history
    return tuple(sorted((*history, watched), key=lambda one: one.at))


def _there(history: History, view: History, move: Move) -> Judgement:
    """The ref is there already, and nobody said where it came from."""
    if move.before is None and view[-1] in history:
        # Told before, and it made a run: what could not be started is not in the history.
        return _known(history, view[-1], (move.teller, move.delivery_id), AGAIN)
    # If that made no run yet, this move does.
    return _fresh(history, view, move, since=_in_doubt(view, move.after))


def _fresh(
    history: History, view: History, move: Move, *, since: datetime | None, why: str = ""
) -> Judgement:
    seen = Sighting(
        commit=move.after,
        before=move.before,
        at=move.now,
        said=move.pushed_at,
        told=((move.teller, move.delivery_id),),
    )
    left, first = _for_images(view, move)
    return Judgement(
        history=_kept((*history, seen)),
        fresh=True,
        why=why,
        since=since,
        at=move.now,
        left=left,
        elsewhere=elsewhere(view, move.after),
        first=first,
    )


def _doubt(history: History, view: History, one: Sighting, move: Move) -> Judgement:
    """A run of its own, and nothing new of where the ref is: if it is elsewhere, the run or the sensor finds that."""
    doubted = one.model_copy(update={"again": move.now})
    history = tuple(doubted if each is one else each for each in history)
    known = _known(history, doubted, (move.teller, move.delivery_id), DOUBT)
    since = max(view[-1].at, one.at)
    left, first = _for_images(view, move)
    since = max(since, one.again or since)
    return replace(
        known,
        fresh=True,
        since=since,
        left=left,
        elsewhere=elsewhere(view, move.after),
        at=move.now,
        first=first,
    )


def _for_images(view: History, move: Move) -> tuple[datetime | None, datetime]:
    """When the ref was last known for sure to be elsewhere; and first where the move ends, since any word of that."""
    sure = _surely_elsewhere(view, move.after)
    first = first_at(view, move.after, _elsewhere(view, move.after))
    return sure, min(first or move.now, move.now)


def _known(history: History, one: Sighting, told: tuple[str, str], why: str) -> Judgement:
    more = one.model_copy(update={"told": (*one.told, told)[-MOST_TOLD:]})
    return Judgement(history=tuple(more if each is one else each for each in history), fresh=False, why=why)


def _elsewhere(view: History, commit: str) -> datetime | None:
    return max((one.at for one in view if one.commit != commit), default=None)


def _surely_elsewhere(view: History, commit: str) -> datetime | None:
    """By the word of the sensor; or of a webhook, of a ref that was deleted."""
    return _elsewhere(tuple(one for one in view if not (one.told and one.commit)), commit)


def _in_doubt(view: History, commit: str) -> datetime | None:
    """When the ref was last told to be elsewhere, be it in doubt."""
    return max((one.again or one.at for one in view if one.commit != commit), default=None)


def _sensed(history: History, view: History, move: Move, at: datetime | None) -> Judgement | None:
    """The late word of what the sensor saw, where it knows better than all that was told; None if it is not that."""
    if at is None or view[-1] in history or any((one.commit, one.at) == (move.after, at) for one in history):
        return None
    seen = Sighting(commit=move.after, before=move.before, at=at)
    return _known(_sorted((*history, seen)), seen, (move.teller, move.delivery_id), SENSED)


def _out_of_order(history: History, view: History, move: Move) -> Judgement:
    """A move that does not begin where the ref was: it came late, or moves before it were not told."""
    later = _next_after(view, move) if move.before is not None else None
    if later:
        return _late(history, view, replace(move, now=min(move.now, later.at - _BEFORE)))
    if move.pushed_at and move.pushed_at < view[-1].at - OVERTAKEN:
        return _late(history, view, replace(move, now=move.pushed_at))
    since = max(view[-1].at, _in_doubt(view, move.after) or view[-1].at)
    return _fresh(history, view, move, since=since, why=LOST if move.before is not None else "")


def _late(history: History, view: History, move: Move) -> Judgement:
    earlier = [one.at for one in view if one.at < move.now and one.commit != move.after]
    late = _fresh((), view, move, since=max(earlier, default=None))
    return replace(late, history=_sorted((*history, *late.history)), why=LATE)


def _next_after(view: History, move: Move) -> Sighting | None:
    """The sighting that a late move comes before: where moves are missing, and it fits on one side."""
    for earlier, later in zip((None, *view), view, strict=False):
        joined = later.before is None or (earlier and earlier.commit == later.before)
        if joined or move.now - later.at > OVERTAKEN:
            continue
        if later.before == move.after or (earlier and earlier.commit == move.before):
            return later
    return None


def _sorted(history: Iterable[Sighting]) -> History:
    return _kept(tuple(sorted(history, key=lambda one: one.at)))


def _kept(history: History) -> History:
    return history[-MOST_SIGHTINGS:]
