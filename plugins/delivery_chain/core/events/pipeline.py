"""The way of a push to its runs: one pipeline for webhooks and for the sensor, for git refs and for images. Pure.

    resolve -> route -> dedupe -> start -> record

Each step takes a list and gives one. A `Push` is all that enters; `route` wraps it once, into `Routed`, which the later
steps fill in; an `Entry` of the ledger is what comes out.

- **resolve** asks for what a push does not say: the commit of an annotated tag, the digest of an image. It needs the
  network, so whoever receives webhooks does it before the transaction; what the sensor sees is resolved already.
- **route** finds the runs that a push stands for, or why it stands for none.
- **dedupe** tells a push that is new from one that was reported before, see `delivery_chain.core.events.dedupe`.
- **start** makes the runs that are not there.
- **record** keeps what is known from now on, and writes the ledger.

What these need from outside is an `Intake`: `delivery_chain.web.intake` for webhooks, `delivery_chain.operators.match`
for the sensor.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from delivery_chain.core.events.dedupe import (
    AGAIN,
    SENSED,
    SUPERSEDED,
    Change,
    Judgement,
    choose,
    judge,
    look_at,
)
from delivery_chain.core.events.ledger import DELETED, SENSOR, Entry, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from delivery_chain.core.events.dedupe import Move
    from delivery_chain.core.events.event import Event
    from delivery_chain.core.events.history import History, Sighting
    from delivery_chain.core.events.push import Push
    from delivery_chain.core.events.routing import Routed, Start

    RunsThere = Mapping[int, Event | None]
    """The runs of a `Start` that are there: the number of the ref's stay to the run's event. None stands for a run that
    is not the push's though its id is taken, see `SUPERSEDED`."""

MOST_AT_ONCE = 50
"""Pushes that are judged before the runs of the first of them are made."""
MOST_TAKEN = 16
"""Ids that somebody may take from under us while one run is made."""
NO_RUN = "a push that was known already, and made no run"
TAKEN = "somebody else takes the ids of its runs; the sensor tries again"


class Intake(Protocol):
    """The pipeline's port: what differs between webhooks and the sensor, and needs more than rules."""

    by: str
    """`sensor`, or `webhook` and the connection's id."""
    facts: Mapping[str, Any]
    """Fields of the runs' events that all pushes of this intake have in common: sender, actor, delivery id."""
    said: datetime | None
    """When it was pushed by the sender's clock, where that says so."""

    def route(self, pushes: Sequence[Push]) -> list[Routed]:
        """The runs that each push stands for; those of one place stand together, places in the order of their ids."""

    def known(self, one: Routed) -> tuple[History, Sighting | None]:
        """Moves of the ref that webhooks reported, and where the sensor saw it last. Locks the place, for webhooks."""

    def word(self, one: Routed) -> Move | Change:
        """The push as what it is for `dedupe`: a webhook's word of a move, or a change between two looks."""

    def there(self, starts: Sequence[Start]) -> list[RunsThere]:
        """The runs that are there, of each start."""

    def wait(self, one: Routed) -> str:
        """Why the runs of a push are not made now, after those that were; empty where they are."""

    def make(self, one: Routed, start: Start, run_id: str, event: Event) -> Outcome | None:
        """Make a run; None where somebody else took its id at this very moment, for a run of another kind."""

    def remember(self, one: Routed, history: History) -> None:
        """Keep what is known of the ref from now on."""

    def entry(self, one: Routed) -> Entry:
        """The ledger's line."""


def take(intake: Intake, pushes: Sequence[Push]) -> list[Routed]:
    """Bring resolved pushes to their runs.

    Returns:
        Each with what came of it, in the order of `route`; the ledger's lines are theirs, see `record`.
    """
    done: list[Routed] = []
    for some in _rounds(intake.route(pushes)):
        done += start(intake, dedupe(intake, some))
    return done


def dedupe(intake: Intake, routed: Sequence[Routed]) -> list[Routed]:
    """Judge each push by what is known of its ref, and by the runs that are there.

    A push that has its answer (`why`) already passes through, as it does in `start`.
    """
    # What would wait in `start` is not asked for: the runs that were made do not get fewer.
    routed = [one if one.why else replace(one, why=intake.wait(one)) for one in routed]
    known = [None if one.why else intake.known(one) for one in routed]
    # Not before the places are locked.
    starts = [start for one in routed if not one.why for start in one.starts]
    found = iter(intake.there(starts))
    judged = []
    for one, before in zip(routed, known, strict=True):
        if before is None:
            judged.append(one)
            continue
        there = tuple(next(found) for _ in one.starts)
        judged.append(replace(one, there=there, judged=_judge(intake, one, before, there)))
    return judged


def start(intake: Intake, judged: Sequence[Routed]) -> list[Routed]:
    """Make the runs of fresh pushes, name those of the others, and remember what has a run."""
    done = []
    for one in judged:
        if one.judged is None:
            done.append(one)
        elif why := intake.wait(one):
            done.append(replace(one, why=why))
        else:
            done.append(_started(intake, one, one.judged))
    return done


def record(intake: Intake, done: Iterable[Routed]) -> list[Entry]:
    """The ledger's lines of what came out."""
    return [intake.entry(one) for one in done]


def _rounds(routed: Sequence[Routed]) -> Iterator[list[Routed]]:
    """Parts in which no ref comes twice: its second move is judged by what came of the first."""
    part: list[Routed] = []
    refs: set[tuple[str, str]] = set()
    for one in routed:
        key = one.place, one.push.ref
        if key in refs or len(part) >= MOST_AT_ONCE:
            yield part
            part, refs = [], set()
        part.append(one)
        refs.add(key)
    if part:
        yield part


def _judge(
    intake: Intake, one: Routed, known: tuple[History, Sighting | None], there: Sequence[RunsThere]
) -> Judgement:
    history, watched = known
    word = intake.word(one)
    if isinstance(word, Change):
        return look_at(history, word)
    ours = [run for runs in there for run in runs.values() if run]
    # Deleted since: if it was on its way, nothing else knows of the push.
    gone = not all(any(runs.values()) for runs in there)
    again = (intake.by, word.delivery_id)
    if word.delivery_id and not gone and any((run.sender, run.delivery_id) == again for run in ours):
        return Judgement(history=history, fresh=False, why=AGAIN)
    sensed = (run.seen_at for run in ours if run.sender == SENSOR and run.seen_at)
    return judge(history, word, watched, max(sensed, default=None), gone=gone)


def _started(intake: Intake, one: Routed, judged: Judgement) -> Routed:
    outcomes = tuple(
        _start(intake, one, wanted, there)
        if judged.fresh and not (judged.gone and any(there.values()))
        else _find(wanted, there)
        for wanted, there in zip(one.starts, one.there, strict=True)
    )
    # What could not be started is not known either: the next word of it counts.
    if all(outcome.run_id for outcome in outcomes):
        intake.remember(one, judged.history)
    why = DELETED if judged.fresh and not one.push.after else judged.why
    return replace(one, outcomes=outcomes, why=why)


def _find(wanted: Start, there: RunsThere) -> Outcome:
    """The newest run of a push that was known before."""
    ours = [visit for visit, run in there.items() if run]
    return wanted.outcome(run_id=wanted.run_id(max(ours))) if ours else wanted.outcome(why=NO_RUN)


def _start(intake: Intake, one: Routed, wanted: Start, there: RunsThere) -> Outcome:
    """The run of a fresh push: made, unless it is there."""
    judged = one.judged
    assert judged is not None  # noqa: S101 - for the type checker
    there = dict(there)
    for _ in range(MOST_TAKEN):
        times = {visit: (run and run.seen_at) or SUPERSEDED for visit, run in there.items()}
        visit, is_there = choose(times, judged.since)
        run_id, run = wanted.run_id(visit), there.get(visit)
        if is_there:
            sensed = run and run.sender == SENSOR and intake.by != SENSOR
            return wanted.outcome(run_id=run_id, why=SENSED if sensed else "")
        outcome = intake.make(one, wanted, run_id, _event(intake, one, wanted, judged))
        if outcome is not None:
            return outcome
        there[visit] = None
    return wanted.outcome(why=TAKEN)


def _event(intake: Intake, one: Routed, wanted: Start, judged: Judgement) -> Event:
    """The run's `conf`. A push that is reported once more is no newer than it was at first."""
    at = judged.at or one.at
    times = {"seen_at": at, "pushed_at": min(intake.said or at, judged.first or at)}
    known = {"left": judged.left, "elsewhere": judged.elsewhere}
    return wanted.event.model_copy(update={**intake.facts, **times, **known})
