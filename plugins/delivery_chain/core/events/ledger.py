"""The ledger: every change of a ref that was seen, by whom, and the runs that it made or why it made none. Pure.

An `Entry` is what one of us, a webhook or the sensor, made of one change. `join` brings the entries together that tell
of the same change; what is missing there is named in `delivery_chain.core.events.gaps`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import AfterValidator

from delivery_chain.core.events.history import CLOCKS
from delivery_chain.core.names.git_ref import short_ref
from delivery_chain.core.times import EPOCH, in_utc
from delivery_chain.core.value import Value
from delivery_chain.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

EVENT = "delivery-chain push"
"""What the webhooks' rows of Airflow's event log are called; each holds an Entry as JSON."""
SENSOR = "sensor"
DELETED = "deleted, so there is nothing to run"
OURS = "the chain built this image itself"
RESERVED = "a tag that chains keep for themselves"
DELETION = "a chain's own mark of a tag that it is deleting"
BACKUP = "a chain's backup of a blocked image"
OWN_WRITES = frozenset({OURS, RESERVED, DELETION, BACKUP})
"""Why changes make no run that chains made themselves: registries tell of those, too."""
GONE = "gone"
"""State of a run that Airflow has no record of any more."""
SOON = "about to begin"
"""State of a run that the sensor's task `start` has yet to make: `match` names it before."""
START_PATIENCE = timedelta(minutes=5)
"""From the sight of a change to the making of its run, on a machine with much to do."""
FAR = datetime(9000, 1, 1, tzinfo=UTC)
UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def _when(time: datetime) -> datetime:
    found = in_utc(time)
    if not EPOCH < found < FAR:
        raise ValueError(f"expected a time that a push may have, found {time.isoformat()}")
    return found


When = Annotated[datetime, AfterValidator(_when)]
"""In UTC, and not so near to the calendar's ends that nothing could be added to it or taken away."""


class Outcome(Value):
    """What one chain made of a change."""

    chain: str
    rule: str = ""
    run_id: str = ""
    """Empty where there is no run."""
    made: bool = False
    """Whether this sight of the change made the run; otherwise it was there already."""
    why: str = ""
    """Why there is no run, or what holds it up."""

    @property
    def sentence(self) -> str:
        """`shop-api (release): run tag__v1.0.0__…`."""
        who = f"{self.chain} ({self.rule})" if self.rule else self.chain
        if not self.run_id:
            return f"{who}: no run, {self.why}"
        also = f", {self.why}" if self.why else ""
        return f"{who}: {'' if self.made else 'already '}run {self.run_id}{also}"


class Standing(Value):
    """How a run stands where the ledger is read."""

    chain: str
    run_id: str
    state: str
    """Airflow's, or `SOON`, or `GONE`."""
    note: str = ""

    @property
    def word(self) -> str:
        """`success`, or with an end that the state alone hides: `success (superseded)`."""
        from delivery_chain.core.run.state import in_a_word  # noqa: PLC0415 - who records changes needs none of it

        return in_a_word(self.state, self.note)


class Entry(Value):
    """One change of one ref, or of one image tag, as one of us saw it."""

    ref: str
    """Full git ref, or `repository:tag`."""
    commit: str
    """Commit, or digest; empty for a ref that was deleted."""
    before: str | None = None
    """Empty for nothing, None where that is not known."""
    at: When
    """When it was seen."""
    by: str
    """`sensor`, or `webhook` and the connection's id."""
    delivery_id: str = ""
    actor: str = ""
    outcomes: tuple[Outcome, ...] = ()
    why: str = ""
    """What is to say about the change as a whole: why no chain takes it, or that it was known."""

    @property
    def sentence(self) -> str:
        """One line."""
        where = f"is at {self.commit[:19]}" if self.commit else "was deleted"
        runs = "; ".join(outcome.sentence for outcome in self.outcomes)
        parts = [part for part in (runs, self.why) if part]
        return f"{self.ref} {where}: {', '.join(parts) or 'no run'}"


class Looked(Entry):
    """One that the sensor saw."""

    since: When | None = None
    """When it had last looked and not seen it; None where that is not known."""


class Seen(NamedTuple):
    """An entry, and where it was found."""

    place: str
    """The Dag that watches what changed; empty where no chain takes anything from there."""
    entry: Entry


class Sight(Value):
    """Who else saw a change."""

    by: str
    after: float
    """Seconds after the first one."""
    times: int = 1
    """How often it told: redeliveries, or several webhooks of one connection."""


class LedgerLine(Value):
    """One change, whoever saw it: a line of the ledger."""

    place: str
    ref: str
    commit: str
    at: datetime
    """When it was first seen."""
    by: str
    """Who saw it first."""
    times: int = 1
    """How often that one told it."""
    last: datetime
    """When it was last told."""
    actor: str = ""
    also: tuple[Sight, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    """One per chain and rule; that with a run, if anybody made one."""
    runs: tuple[Standing, ...] = ()
    """How the runs of the outcomes stand."""
    why: str = ""
    gaps: tuple[str, ...] = ()
    """What should have been seen and was not."""

    def standing(self, outcome: Outcome) -> Standing | None:
        """How the run of an outcome stands; None where it has none, or nobody looked."""
        wanted = (outcome.chain, outcome.run_id)
        return next((run for run in self.runs if (run.chain, run.run_id) == wanted), None)

    @property
    def tellers(self) -> tuple[str, ...]:
        """Who saw it."""
        return (self.by, *(sight.by for sight in self.also))

    @property
    def own(self) -> bool:
        """Whether a chain itself wrote it: nobody pushed anything."""
        return not self.outcomes and self.why in OWN_WRITES

    @property
    def name(self) -> str:
        """The ref for people: `tag v1.0.0`, `branch main`, `shop/api:v1.0.0`."""
        kind, name = short_ref(self.ref)
        return f"{kind} {name}" if kind else name

    @property
    def short(self) -> str:
        """The first digits of the commit or digest."""
        return self.commit.rpartition(":")[2][:12] or "deleted"


class EntryGroup:
    """The entries of one change, while they are being found."""

    def __init__(self, first: Seen) -> None:
        self.place = first.place
        self.entries = [first.entry]
        self.runs = _runs(first.entry)

    def add(self, entry: Entry) -> None:
        """One more sight of it."""
        self.entries.append(entry)
        self.runs |= _runs(entry)

    def change(self) -> LedgerLine:
        """The finished line."""
        first = min(self.entries, key=_seen_at)
        times: dict[str, list[Entry]] = {}
        for entry in sorted(self.entries, key=_seen_at):
            times.setdefault(entry.by, []).append(entry)
        also = [
            Sight(by=by, after=max(0.0, (one[0].at - first.at).total_seconds()), times=len(one))
            for by, one in times.items()
            if by != first.by
        ]
        outcomes = _best(outcome for entry in self.entries for outcome in entry.outcomes)
        whys = [first.why, *(entry.why for entry in self.entries if not outcomes)]
        return LedgerLine(
            place=self.place,
            ref=first.ref,
            commit=first.commit,
            at=first.at,
            by=first.by,
            times=len(times[first.by]),
            last=max(entry.at for entry in self.entries),
            actor=next((entry.actor for entry in self.entries if entry.actor), ""),
            also=tuple(also),
            outcomes=outcomes,
            why=next(filter(None, whys), ""),
        )


def join(seen: Iterable[Seen]) -> list[EntryGroup]:
    """Bring together what tells of the same change; the newest first.

    Two entries about the same ref, at the same commit and the same place, are the same change

    - if both name the same run, for a run's id numbers the ref's stays at its commit;
    - or if they are the same delivery, sent once more;
    - or, where they have no two runs to compare, if the ref was at no other commit between them.
    """
    lines: list[EntryGroup] = []
    by_run: dict[tuple[str, str, str, tuple[str, str]], EntryGroup] = {}
    by_delivery: dict[tuple[str, str, str, str, str], EntryGroup] = {}
    newest: dict[tuple[str, str], EntryGroup] = {}
    for one in sorted(seen, key=lambda one: one.entry.at):
        place, entry = one
        runs = [(place, entry.ref, entry.commit, run) for run in sorted(_runs(entry))]
        delivery = (place, entry.ref, entry.commit, entry.by, entry.delivery_id)
        line = next((by_run[run] for run in runs if run in by_run), None)
        if line is None and entry.delivery_id:
            line = by_delivery.get(delivery)
        if line is None and _stays(last := newest.get((place, entry.ref)), entry):
            line = last
        if line is None:
            line = newest[place, entry.ref] = EntryGroup(one)
            lines.append(line)
        else:
            line.add(entry)
        by_run.update(dict.fromkeys(runs, line))
        by_delivery.setdefault(delivery, line)
    return sorted(lines, key=lambda line: line.entries[0].at, reverse=True)


def parse_since(text: str, now: datetime) -> datetime:
    """The time that `30m`, `12h`, `1d` or an ISO time stands for; without a zone it is UTC.

    Raises:
        UsageError: It is none of these.
    """
    text = text.strip()
    number, unit = text[:-1], UNITS.get(text[-1:])
    try:
        if unit and number.isascii() and number.isdecimal():
            return now - timedelta(**{unit: int(number)})
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"since {text[:100]!r}: expected 30m, 12h, 1d, or a time such as 2026-01-31T12:00"
        ) from error


def _seen_at(entry: Entry) -> datetime:
    """Clocks differ, and a look takes its time: among those who saw it nearly at once, who made a run was first."""
    return entry.at - CLOCKS if any(outcome.made for outcome in entry.outcomes) else entry.at


def _runs(entry: Entry) -> set[tuple[str, str]]:
    return {(outcome.chain, outcome.run_id) for outcome in entry.outcomes if outcome.run_id}


def _stays(line: EntryGroup | None, entry: Entry) -> bool:
    return line is not None and line.entries[0].commit == entry.commit and not (line.runs and _runs(entry))


def _best(outcomes: Iterable[Outcome]) -> tuple[Outcome, ...]:
    """One per chain and rule: that which made a run, before one that found it, before one without."""
    found: dict[tuple[str, str], Outcome] = {}
    for outcome in outcomes:
        key = outcome.chain, outcome.rule
        if key not in found or _weight(outcome) > _weight(found[key]):
            found[key] = outcome
    return tuple(found.values())


def _weight(outcome: Outcome) -> int:
    return bool(outcome.run_id) + (outcome.made and bool(outcome.run_id))
