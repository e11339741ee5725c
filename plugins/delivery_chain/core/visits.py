"""One push, one run: which of a ref's stays at a commit a delivery is about. Pure.

A ref moves A -> B -> A: three stays, three runs. Webhooks tell the moves: twice, late, out of order, or never. The
sensor sees where the ref is now and then, and never the moves in between. Both number a ref's stays at one commit
alike, and the number is in the run's id, so that what both saw is one run:

    a run for this ref and commit, made since the ref was last known to be elsewhere, is this very push.

`judge` finds that time for a webhook, `left_at` for the sensor; `choose` picks the stay. A delivery that fits nowhere
into what is known makes no run where the sensor has one of that commit; else it makes one, which builds nothing if it
finds its ref elsewhere.

Where it is in doubt whether a push is told again, it gets a run: that asks the registry whether the push was built, see
`delivery_chain.core.built`. A run too many is skipped, a push without one would be lost.

What was forgotten may be told again from its beginning, and would make a ref look as if it were elsewhere. A move that
does not begin where the ref is known to be is doubtful, and so is what follows it until the sensor sees the ref there:
whether the ref was there is for the registry to say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from pydantic import AwareDatetime, ValidationError

from delivery_chain.core.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MOST_SIGHTINGS = 8
"""What is remembered of one ref. A redelivery of an older push is told by its run."""
MOST_TOLD = 8
MOST_REFS = 100
"""Refs of one source whose history is kept: at most some 200 kB in Airflow's database, which each push writes."""
MOST_TEXT = 256 * 1024
"""Characters of it all: a third more where Airflow encrypts it. Names and ids come from outside."""
CLOCKS = timedelta(seconds=5)
"""How far the clocks of the triggerer, of workers and of the API server may be apart."""
OVERTAKEN = timedelta(seconds=60)
"""A delivery that is later than another one by more than this was not overtaken by it: its move is the newer one."""
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


def utc(text: str) -> datetime:
    """An ISO 8601 time; one without a zone, as a person may write it, is UTC.

    Raises:
        ValueError: It is none.
    """
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


class Sighting(Value):
    """A ref came to a commit, as somebody told."""

    commit: str
    """Commit, or an image's digest; empty for a ref that was deleted."""
    before: str | None
    """Where it was; empty for nowhere, None where that was not said."""
    at: AwareDatetime
    """When we heard of it; of one that came late, when it must have been."""
    said: AwareDatetime | None = None
    """When it was by the sender's clock, where it says so."""
    again: AwareDatetime | None = None
    """When it was last told in doubt: that may have been another push of the same move."""
    told: tuple[tuple[str, str], ...] = ()
    """Who told it, and with which delivery id."""
    doubt: bool = False
    """Whether it does not follow from what was known, so that it may be an old move that is told again."""


History = tuple[Sighting, ...]
"""The last sightings of one ref, the newest last."""


class Told(Value):
    """What webhooks told of one source's refs, or of one namespace's images; in an Airflow Variable."""

    refs: dict[str, History] = {}

    @classmethod
    def read(cls, text: str | None) -> Told:
        """What is in the Variable; nothing where there is none, or where somebody made it unreadable by hand.

        What is forgotten costs at most a run too many: ids that are taken stay taken, and the sensor loses no push.
        """
        try:
            return cls.model_validate_json(text or "{}")
        except ValidationError:
            return cls()

    def to_text(self) -> str:
        """For the Variable; of more than fits the refs go that nobody told anything of for longest."""
        told = self
        while len(text := told.model_dump_json(exclude_defaults=True)) > MOST_TEXT and told.refs:
            kept = sorted(told.refs, key=lambda name: told.refs[name][-1].at)[len(told.refs) // 4 + 1 :]
            told = Told(refs={name: told.refs[name] for name in kept})
        return text

    def with_history(self, ref: str, history: History) -> Told:
        """Remember; the refs that nobody told anything of for longest are forgotten."""
        refs = {**{name: old for name, old in self.refs.items() if name != ref}, ref: history}
        if len(refs) > MOST_REFS:
            kept = sorted(refs, key=lambda name: refs[name][-1].at)[-MOST_REFS:]
            refs = {name: refs[name] for name in kept}
        return Told(refs=refs)

    def between(self, seen: Mapping[str, str], *, since: datetime, looked: datetime) -> dict[str, str]:
        """What was told to be elsewhere than two looks saw it, between them: name to that place.

        Args:
            seen: What both looks saw.
            since: When the first began.
            looked: When the second began.
        """
        found: dict[str, str] = {}
        for ref, history in self.refs.items():
            here = seen.get(ref)
            for one in history if here else ():
                if since < one.at + CLOCKS <= looked and one.commit != here:
                    found[ref] = one.commit
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A delivery's word that a ref moved."""

    before: str | None
    after: str
    teller: str
    """Which webhook; two of them may tell the same move."""
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
    """What a move is."""

    history: History
    """What is known from now on."""
    fresh: bool
    """Whether it is a push that was not known."""
    why: str
    """For people; of a fresh one only where something is odd."""
    since: datetime | None = None
    """When the ref was last known to be elsewhere, by which its runs are told apart; None for never."""
    left: datetime | None = None
    """The same for its images: what is in doubt here is left to the registry."""
    elsewhere: tuple[str, ...] = ()
    """Where the ref is said to have been, in doubt: the registry knows what came of it."""
    at: datetime | None = None
    """When a fresh push was seen; of one that came late, when it must have been."""
    first: datetime | None = None
    """When the ref was first known to be where it goes, since it was elsewhere: `at`, or earlier where in doubt."""


def judge(
    history: History, move: Move, watched: Sighting | None = None, sensed: datetime | None = None
) -> Judgement:
    """Tell a push from a redelivery.

    Args:
        history: What webhooks told of this ref before.
        move: What one tells now.
        watched: Where the sensor saw the ref last, if it did.
        sensed: When the sensor saw the ref come to where the move ends, as the newest run says that it made of it.
    """
    history = _confirmed(history, watched)
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
        # A delivery of the same move, which does not begin where the ref is: it may have been made twice.
        return _doubt(history, view, known[-1], move)
    return _sensed(history, view, move, sensed) or _out_of_order(history, view, move)


def left_at(history: History, commit: str, *, looked: datetime, since: datetime | None) -> datetime | None:
    """When the ref was last known to be elsewhere than where the sensor sees it.

    Args:
        history: What webhooks told of this ref.
        commit: Where it is.
        looked: When the look at it began; what was told after that may be newer than the look.
        since: When the last look began that saw it elsewhere; None if there was none.
    """
    heard = _elsewhere(tuple(one for one in history if one.at <= looked - CLOCKS), commit)
    times = [heard, since - CLOCKS if since else None]
    return max((time for time in times if time), default=None)


def sure_left(history: History, change: Change) -> datetime | None:
    """When the ref was last known for sure to be elsewhere than where the sensor sees it; see `left_at`."""
    sure = tuple(one for one in history if not one.doubt)
    # It was the word of a webhook that the ref was elsewhere at the last look, which saw it where it is now.
    hearsay = any(one.doubt and one.commit == change.previous for one in history)
    return left_at(sure, change.commit, looked=change.looked, since=None if hearsay else change.since)


def doubtful(history: History, commit: str) -> tuple[str, ...]:
    """Where webhooks told the ref to be, in doubt: commits or digests, each once."""
    found = (one.commit for one in history if one.doubt and one.commit not in ("", commit))
    return tuple(dict.fromkeys(found))


def first_at(history: History, commit: str, left: datetime | None) -> datetime | None:
    """When the ref was first known to be at a commit, since it was elsewhere; None where nobody told of it."""
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


def _confirmed(history: History, watched: Sighting | None) -> History:
    """What is known, without doubt in what the sensor has seen since."""
    last = history[-1] if history else None
    if last is None or not last.doubt or watched is None:
        return history
    seen = watched.commit == last.commit and watched.at >= last.at
    return (*history[:-1], last.model_copy(update={"doubt": False})) if seen else history


def _is_doubtful(view: History, move: Move) -> bool:
    """Whether a move does not follow from what is known."""
    if not view:
        return True
    last = view[-1]
    by_sensor = not last.told
    if by_sensor and last.commit in ("", move.after):
        # It was not there, or is where the move ends.
        return last.commit == "" and move.before not in ("", None)
    if move.before is None:
        return last.doubt or by_sensor
    return last.doubt or move.before != last.commit


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
        doubt=_is_doubtful(view, move),
    )
    left, first = _for_images(view, move)
    return Judgement(
        history=_kept((*history, seen)),
        fresh=True,
        why=why,
        since=since,
        at=move.now,
        left=left,
        elsewhere=doubtful(view, move.after),
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
    about = {"left": left, "elsewhere": doubtful(view, move.after), "at": move.now, "first": first}
    return replace(known, fresh=True, since=since, **about)


def _for_images(view: History, move: Move) -> tuple[datetime | None, datetime]:
    """When the ref was last known for sure to be elsewhere; and first where the move ends, since any word of that."""
    sure = _elsewhere(tuple(one for one in view if not one.doubt), move.after)
    first = first_at(view, move.after, _elsewhere(view, move.after))
    return sure, min(first or move.now, move.now)


def _known(history: History, one: Sighting, told: tuple[str, str], why: str) -> Judgement:
    more = one.model_copy(update={"told": (*one.told, told)[-MOST_TOLD:]})
    return Judgement(history=tuple(more if each is one else each for each in history), fresh=False, why=why)


def _elsewhere(view: History, commit: str) -> datetime | None:
    return max((one.at for one in view if one.commit != commit), default=None)


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
    later = _place(view, move) if move.before is not None else None
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


def _place(view: History, move: Move) -> Sighting | None:
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
