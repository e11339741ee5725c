"""Starts the runs of pushes: one pipeline for webhooks and the sensor, for git refs and images. Pure.

    resolve -> route -> dedupe -> start -> record

Each step takes a list and returns one. Only `Push` values enter; `route` wraps each into a `Routed`, which the later
steps fill in; ledger entries (`Entry`) come out.

- **resolve** looks up missing facts: the commit of an annotated tag, the digest of an image. It needs the network, so
  the webhook receiver does it before its transaction; the sensor's pushes are resolved already.
- **route** finds the runs of a push, or the reason why it has none.
- **dedupe** separates new pushes from those reported before, see `delivery_chain.core.events.dedupe`.
- **start** creates the runs that do not exist yet.
- **record** writes the ledger's entries.

The steps reach Airflow only through an `Intake`: `delivery_chain.web.intake` for webhooks,
`delivery_chain.operators.match` for the sensor.
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
from delivery_chain.core.events.ledger import DELETED, SENSOR, Entry, StartResult

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from delivery_chain.core.events.dedupe import Move
    from delivery_chain.core.events.event import Event
    from delivery_chain.core.events.history import History, Sighting
    from delivery_chain.core.events.push import Push
    from delivery_chain.core.events.routing import Routed, Start

    RunsThere = Mapping[int, Event | None]
    """Existing runs of a `Start`: maps the number of the ref's stay to the run's event, or to None for a run that has
    the id but was not started for this push, see `SUPERSEDED`."""

MOST_AT_ONCE = 50
"""Number of pushes that are judged together before their runs are created."""
MOST_TAKEN = 16
"""Attempts to create one run while other clients take its ids."""
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
        """Find the runs of each push; grouped by watched source or namespace, in the order of their Dag ids."""

    def known(self, one: Routed) -> tuple[History, Sighting | None]:
        """Return the ref's moves that webhooks reported, and the sensor's last sighting; for webhooks, lock them."""

    def word(self, one: Routed) -> Move | Change:
        """Convert a push for `dedupe`: to a move that a webhook reported, or to a change between two polls."""

    def there(self, starts: Sequence[Start]) -> list[RunsThere]:
        """Return the existing runs of each start."""

    def wait(self, one: Routed) -> str:
        """Reason to postpone the runs of a push, given those created so far; empty to create them now."""

    def make(self, one: Routed, start: Start, run_id: str, event: Event) -> StartResult | None:
        """Create a run; None if another client concurrently took its id for a run that is not of this push."""

    def remember(self, one: Routed, history: History) -> None:
        """Store the ref's updated history."""

    def entry(self, one: Routed) -> Entry:
        """Return the ledger's entry for a push."""


def take(intake: Intake, pushes: Sequence[Push]) -> list[Routed]:
    """Pass resolved pushes through route, dedupe and start.

    Returns:
        Each push with its result, in the order of `route`; `record` turns them into ledger entries.
    """
    done: list[Routed] = []
    for some in _rounds(intake.route(pushes)):
        done += start(intake, dedupe(intake, some))
    return done


def dedupe(intake: Intake, routed: Sequence[Routed]) -> list[Routed]:
    """Judge each push by its ref's history and its existing runs.

    A push that already has a reason for no run (`why`) passes through unchanged, also in `start`.
    """
    # Skip pushes that would be postponed in `start` anyway: the number of runs created never falls.
    routed = [one if one.why else replace(one, why=intake.wait(one)) for one in routed]
    known = [None if one.why else intake.known(one) for one in routed]
    # Read the existing runs only after the histories are locked.
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
    """Create the runs of fresh pushes, find those of the others, and remember the pushes that have runs."""
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
    """Return the ledger's entries for the results."""
    return [intake.entry(one) for one in done]


def _rounds(routed: Sequence[Routed]) -> Iterator[list[Routed]]:
    """Split into batches in which no ref occurs twice: judging its second move needs the result of the first."""
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
    if all(result.run_id for result in outcomes):
        intake.remember(one, judged.history)
    why = DELETED if judged.fresh and not one.push.after else judged.why
    return replace(one, outcomes=outcomes, why=why)


def _find(wanted: Start, there: RunsThere) -> StartResult:
    """Find the newest run of a push that was known before."""
    ours = [visit for visit, run in there.items() if run]
    return wanted.result(run_id=wanted.run_id(max(ours))) if ours else wanted.result(why=NO_RUN)


def _start(intake: Intake, one: Routed, wanted: Start, there: RunsThere) -> StartResult:
    """Create the run of a fresh push, unless it exists."""
    judged = one.judged
    assert judged is not None  # noqa: S101 - for the type checker
    there = dict(there)
    for _ in range(MOST_TAKEN):
        times = {visit: (run and run.seen_at) or SUPERSEDED for visit, run in there.items()}
        visit, is_there = choose(times, judged.since)
        run_id, run = wanted.run_id(visit), there.get(visit)
        if is_there:
            sensed = run and run.sender == SENSOR and intake.by != SENSOR
            return wanted.result(run_id=run_id, why=SENSED if sensed else "")
        result = intake.make(one, wanted, run_id, _event(intake, one, wanted, judged))
        if result is not None:
            return result
        there[visit] = None
    return wanted.result(why=TAKEN)


def _event(intake: Intake, one: Routed, wanted: Start, judged: Judgement) -> Event:
    """Build the run's `conf`. A redelivered push keeps the time of its first report."""
    at = judged.at or one.at
    times = {"seen_at": at, "pushed_at": min(intake.said or at, judged.first or at)}
    known = {"left": judged.left, "elsewhere": judged.elsewhere}
    return wanted.event.model_copy(update={**intake.facts, **times, **known})
