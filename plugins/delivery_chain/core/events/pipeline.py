"""Takes pushes to their runs: one pipeline for webhooks and the sensor, for git refs and images. Pure.

    resolve -> route -> dedupe -> start -> record

Each step takes a list and returns one. Only `Push` values enter; `route` wraps each into a `Routed`, which the later
steps fill in; ledger entries (`Entry`) come out.

- **resolve** looks up missing facts: the commit of an annotated tag, the digest of an image. It needs the network, so
  the webhook receiver does it before its transaction; what the sensor sees is resolved already.
- **route** finds the runs of a push, or the reason why it has none.
- **dedupe** separates new pushes from those reported before, see `delivery_chain.core.events.dedupe`.
- **start** makes the runs that do not exist yet.
- **record** writes the ledger.

Their port to the outside is an `Intake`: `delivery_chain.web.intake` for webhooks, `delivery_chain.operators.match` for
the sensor.
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
    """Existing runs of a `Start`: number of the ref's stay to the run's event. None stands for a run that has the id
    but is not of this push, see `SUPERSEDED`."""

MOST_AT_ONCE = 50
"""Pushes that are judged together before their runs are made."""
MOST_TAKEN = 16
"""Attempts to make one run while other clients take its ids."""
NO_RUN = "a push that was known already, and made no run"
NO_DAG = "Airflow does not have its Dag now: redeliver the push after the next parse"
IMPORT_ERRORS = "the Dag's file has import errors: redeliver the push when they are corrected"
TAKEN = "other clients keep taking its run ids; the sensor tries again"


class Intake(Protocol):
    """The pipeline's port: operations that need I/O, and that differ between webhooks and the sensor."""

    by: str
    """`sensor`, or `webhook` and the connection's id."""
    facts: Mapping[str, Any]
    """Fields that the events of all runs of this intake share: sender, actor, delivery id."""
    said: datetime | None
    """Time of the push by the sender's clock, if given."""

    def route(self, pushes: Sequence[Push]) -> list[Routed]:
        """Find the runs of each push; grouped by place, places in the order of their ids."""

    def known(self, one: Routed) -> tuple[History, Sighting | None]:
        """The ref's moves that webhooks reported, and the sensor's last sighting. For webhooks, locks the place."""

    def word(self, one: Routed) -> Move | Change:
        """The push as `dedupe` judges it: a move that a webhook reported, or a change between two polls."""

    def there(self, starts: Sequence[Start]) -> list[RunsThere]:
        """The existing runs of each start."""

    def wait(self, one: Routed) -> str:
        """Reason to postpone the runs of a push, given those made so far; empty to make them now."""

    def make(self, one: Routed, start: Start, run_id: str, event: Event) -> Outcome | None:
        """Make a run; None if another client took its id concurrently, for a run that is not of this push."""

    def remember(self, one: Routed, history: History) -> None:
        """Store the ref's updated history."""

    def entry(self, one: Routed) -> Entry:
        """The ledger's entry."""


def take(intake: Intake, pushes: Sequence[Push]) -> list[Routed]:
    """Take resolved pushes to their runs.

    Returns:
        Each push with its result, in the order of `route`; `record` makes ledger entries of them.
    """
    done: list[Routed] = []
    for some in _rounds(intake.route(pushes)):
        done += start(intake, dedupe(intake, some))
    return done


def dedupe(intake: Intake, routed: Sequence[Routed]) -> list[Routed]:
    """Judge each push by its ref's history and its existing runs.

    A push that has its answer (`why`) already passes through, as it does in `start`.
    """
    # Skip pushes that would wait in `start` anyway: the count of runs made never falls.
    routed = [one if one.why else replace(one, why=intake.wait(one)) for one in routed]
    known = [None if one.why else intake.known(one) for one in routed]
    # Read only after the places are locked.
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
    """Make the runs of fresh pushes, name those of the others, and remember the pushes that have runs."""
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
    """The ledger's entries of the results."""
    return [intake.entry(one) for one in done]


def _rounds(routed: Sequence[Routed]) -> Iterator[list[Routed]]:
    """Split into batches in which no ref occurs twice: its second move is judged by the result of the first."""
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
    # Deleted since: if it was still active, nothing else records the push.
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
    # A push that could not be started is not remembered, so that its next report counts.
    if all(outcome.run_id for outcome in outcomes):
        intake.remember(one, judged.history)
    why = DELETED if judged.fresh and not one.push.after else judged.why
    return replace(one, outcomes=outcomes, why=why)


def _find(wanted: Start, there: RunsThere) -> Outcome:
    """Name the newest run of a push that was known before."""
    ours = [visit for visit, run in there.items() if run]
    return wanted.outcome(run_id=wanted.run_id(max(ours))) if ours else wanted.outcome(why=NO_RUN)


def _start(intake: Intake, one: Routed, wanted: Start, there: RunsThere) -> Outcome:
    """Make the run of a fresh push, unless it exists."""
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
    """The run's `conf`. A redelivered push keeps the time of its first report."""
    at = judged.at or one.at
    times = {"seen_at": at, "pushed_at": min(intake.said or at, judged.first or at)}
    known = {"left": judged.left, "elsewhere": judged.elsewhere}
    return wanted.event.model_copy(update={**intake.facts, **times, **known})
