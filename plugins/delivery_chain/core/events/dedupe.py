"""Deduplicates pushes, so that each gets one run: assigns a report of a push to one of a ref's stays at a commit. Pure.

A ref that moves A -> B -> A has three stays, so three runs. Webhooks report moves: twice, late, out of order, or never.
The sensor samples the ref's position, and misses moves between two polls. Both number a ref's stays at one commit in
the same way, and the number is part of the run id, so that a push seen by both gets one run. The rule is:

    a run for this ref and commit, made since the ref was last known to be elsewhere, is the run of this push.

`judge` finds that time for a webhook, `look_at` for the sensor; `choose` picks the stay. A notification that
contradicts the history starts no run if the sensor has started one for that commit; otherwise it starts one, which
builds nothing if it finds its ref elsewhere.

A suspected redelivery gets a run, which asks the registry whether the push was built, see
`delivery_chain.core.events.built`. A redundant run is skipped, whereas a push without a run would be lost.

After a ref's history was evicted, a sender may redeliver its old moves, which then look as if the ref had been
elsewhere. So a webhook's report alone can start a run, but never proves that an existing image is out of date: the
registry, too, must show that the ref moved.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from delivery_chain.core.events.history import CLOCKS, History, Sighting

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MOST_SIGHTINGS = 8
"""Sightings kept per ref. A redelivery of an older push is recognized by its run."""
MOST_TOLD = 8
OVERTAKEN = timedelta(seconds=60)
"""Window in which notifications may arrive out of order. One that arrives after it reports a newer move."""
SUPERSEDED = datetime.min.replace(tzinfo=UTC)
"""Used in place of the time of a run that has a stay's number, but is not the push's run: it found its ref elsewhere
before the sensor polled, or another client started it under that id."""
# The ledger stores these reasons, and `gaps` compares them: new words would misjudge old records.
AGAIN = "a redelivery"
ANOTHER = "another webhook reported it before"
REPLAYED = "a replay of an earlier push"
LATE = "it arrived late: a newer push is already known"
DOUBT = "possibly a redelivery: its run checks whether it was built"
SENSED = "the sensor saw it first"
LOST = "earlier moves were not reported"
_BEFORE = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A webhook's report that a ref moved."""

    before: str | None
    after: str
    teller: str
    """The reporting webhook; two of them may report the same move."""
    delivery_id: str
    """Empty if the sender gives none."""
    now: datetime
    pushed_at: datetime | None = None
    """Time of the push by the sender's clock, if given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A moved ref as the sensor sees it."""

    commit: str
    previous: str | None
    looked: datetime
    """Start of the poll that saw it."""
    since: datetime | None
    """Start of the last poll that saw the ref elsewhere; None before the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The verdict on a move or change: new push or redelivery, with the updated history of its ref."""

    history: History
    """The ref's history, updated."""
    fresh: bool
    """Whether the push is new."""
    why: str
    """Reason for the judgement, shown to users; for a fresh push only if something is unusual."""
    since: datetime | None = None
    """When the ref was last known to be elsewhere; None for never. Runs from before then belong to earlier stays."""
    left: datetime | None = None
    """When the sensor last saw the ref elsewhere, or it was deleted; None for never. Images from before then belong to
    earlier stays."""
    elsewhere: tuple[str, ...] = ()
    """Other commits or digests that webhooks reported for the ref; the registry knows whether they were built."""
    at: datetime | None = None
    """When a fresh push was seen; for a late one, an estimate."""
    first: datetime | None = None
    """When the ref was first known to be at its new commit since it was elsewhere: `at`, or earlier if in doubt."""
    gone: bool = False
    """Whether it is fresh only because one of its runs was deleted: its other runs stay valid."""


def judge(
    history: History,
    move: Move,
    watched: Sighting | None = None,
    sensed: datetime | None = None,
    *,
    gone: bool = False,
) -> Judgement:
    """Distinguish a new push from a redelivery.

    Args:
        history: Earlier moves of this ref, as webhooks reported them.
        move: The move that is reported now.
        watched: The sensor's last sighting of the ref, if any.
        sensed: When the sensor saw the ref arrive at the end of the move, according to the newest run it made for that.
        gone: Whether a chain has no run (any longer) for the end of the move. A redelivery then gets one, just like a
            suspected redelivery.
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
    if (redelivered := _redelivered(history, view, move)) is not None:
        return redelivered
    last = view[-1] if view else None
    if last is None or (move.before is not None and move.before == last.commit):
        return _fresh(history, view, move, since=_in_doubt(view, move.after))
    if last.commit == move.after and (last.before is None or move.before is None):
        return _there(history, view, move)
    if known := [one for one in history if _same(one, move)]:
        if not move.delivery_id:
            return Judgement(history=history, fresh=False, why=REPLAYED)
        # The same move again, from a commit where the ref is not: the move may have been made twice.
        return _doubt(history, view, known[-1], move)
    return _sensed(history, view, move, sensed) or _out_of_order(history, view, move)


def look_at(history: History, change: Change) -> Judgement:
    """Judge a push that the sensor sees. It is always fresh: its runs show whether it was reported before.

    Args:
        history: Moves of the ref, as webhooks reported them.
        change: The sensor's sighting. A move reported after its poll began may be newer than the poll.
    """
    before = change.looked - CLOCKS
    known = tuple(one for one in history if one.at <= before)
    looked = change.since - CLOCKS if change.since else None
    # The last poll saw the ref where it is now, so `previous` comes from a webhook's report in between.
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
    """Distinct commits or digests, other than `commit`, that webhooks reported for the ref."""
    return tuple(dict.fromkeys(one.commit for one in history if one.told and one.commit not in ("", commit)))


def first_at(history: History, commit: str, left: datetime | None) -> datetime | None:
    """Time at which the ref was first known to be at a commit, since it was elsewhere; None if never reported."""
    times = (one.at for one in history if one.commit == commit and one.at > (left or SUPERSEDED))
    return min(times, default=None)


def choose(made: Mapping[int, datetime], since: datetime | None) -> tuple[int, bool]:
    """Return the number of the push's stay, counted from 1, and whether its run exists already.

    Args:
        made: The runs of this ref and commit: maps the number of a stay to the time of its push, or to `SUPERSEDED`.
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


def _redelivered(history: History, view: History, move: Move) -> Judgement | None:
    """Judge a redelivery, or the same move from another webhook; None if it is neither."""
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
            # Long afterwards it may be another push, reported by this webhook alone.
            soon = move.now - one.at <= OVERTAKEN
            return _known(history, one, told, ANOTHER) if soon else _doubt(history, view, one, move)
    return None


def _view(history: History, watched: Sighting | None) -> History:
    if watched is None or (history and history[-1].commit == watched.commit):
        return history
    return tuple(sorted((*history, watched), key=lambda one: one.at))


def _there(history: History, view: History, move: Move) -> Judgement:
    """Judge a move to the commit where the ref is already, if the move or that sighting does not say where it began."""
    if move.before is None and view[-1] in history:
        # Reported before, and it made a run: a push that could not be started is not in the history.
        return _known(history, view[-1], (move.teller, move.delivery_id), AGAIN)
    # If that sighting made no run yet, this move does.
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
    """Grant a run without moving the ref in the history: if the ref is elsewhere, the run or the sensor finds out."""
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
    """Times when the ref was last certainly elsewhere, and first at the end of the move since any report of that."""
    sure = _surely_elsewhere(view, move.after)
    first = first_at(view, move.after, _elsewhere(view, move.after))
    return sure, min(first or move.now, move.now)


def _known(history: History, one: Sighting, told: tuple[str, str], why: str) -> Judgement:
    more = one.model_copy(update={"told": (*one.told, told)[-MOST_TOLD:]})
    return Judgement(history=tuple(more if each is one else each for each in history), fresh=False, why=why)


def _elsewhere(view: History, commit: str) -> datetime | None:
    return max((one.at for one in view if one.commit != commit), default=None)


def _surely_elsewhere(view: History, commit: str) -> datetime | None:
    """The time when the sensor last saw the ref elsewhere, or a webhook reported its deletion."""
    return _elsewhere(tuple(one for one in view if not (one.told and one.commit)), commit)


def _in_doubt(view: History, commit: str) -> datetime | None:
    """The time when the ref was last reported elsewhere, including doubtful reports."""
    return max((one.again or one.at for one in view if one.commit != commit), default=None)


def _sensed(history: History, view: History, move: Move, at: datetime | None) -> Judgement | None:
    """Judge a move that the sensor saw first, if the sensor's sighting is newer than every report; otherwise None."""
    if at is None or view[-1] in history or any((one.commit, one.at) == (move.after, at) for one in history):
        return None
    seen = Sighting(commit=move.after, before=move.before, at=at)
    return _known(_sorted((*history, seen)), seen, (move.teller, move.delivery_id), SENSED)


def _out_of_order(history: History, view: History, move: Move) -> Judgement:
    """Judge a move that does not start where the ref was: it is late, or earlier moves were never reported."""
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
    """The sighting that a late move precedes: moves are missing before it, and the late one joins one of its sides."""
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
