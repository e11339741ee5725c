"""Builds the ledger: every ref change seen, its observers, and the runs it made or why it made none. Pure.

An `Entry` records one observation of a change, by a webhook or the sensor. `join` groups the entries of the same
change; `delivery_chain.core.events.gaps` then finds missing ones.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import AfterValidator

from delivery_chain.core.events.history import CLOCKS
from delivery_chain.core.names.git_ref import short_ref
from delivery_chain.core.run.end import in_a_word
from delivery_chain.core.times import EPOCH, in_utc
from delivery_chain.core.value import Value
from delivery_chain.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

EVENT = "delivery-chain push"
"""Name of the webhooks' rows in Airflow's event log; each holds an Entry as JSON."""
SENSOR = "sensor"
DELETED = "deleted, so there is nothing to run"
OURS = "the chain built this image itself"
RESERVED = "a tag that chains keep for themselves"
DELETION = "a chain's own mark of a tag that it is deleting"
BACKUP = "a chain's backup of a blocked image"
OWN_WRITES = frozenset({OURS, RESERVED, DELETION, BACKUP})
"""Reasons why a chain's own writes, which registries report as well, make no run. Stored in the ledger."""
GONE = "gone"
"""State of a run that is no longer in Airflow's database."""
SOON = "about to begin"
"""State of a run that `match` has named and the sensor's task `start` has yet to make."""
START_PATIENCE = timedelta(minutes=5)
"""Time from seeing a change to making its run, on a busy machine."""
FAR = datetime(9000, 1, 1, tzinfo=UTC)
UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def _when(time: datetime) -> datetime:
    found = in_utc(time)
    if not EPOCH < found < FAR:
        raise ValueError(f"expected a time that a push may have, found {time.isoformat()}")
    return found


When = Annotated[datetime, AfterValidator(_when)]
"""A time in UTC, far enough from the limits of `datetime` for arithmetic."""


class StartResult(Value):
    """Result of the step `start` for one chain: the run that a change got, or why it has none."""

    chain: str
    rule: str = ""
    run_id: str = ""
    """Empty without a run."""
    made: bool = False
    """Whether this observation of the change made the run; otherwise it existed already."""
    why: str = ""
    """Reason why the change has no run, or why its run waits."""

    @property
    def sentence(self) -> str:
        """One line for people: `shop-api (release): run tag__v1.0.0__…`."""
        who = f"{self.chain} ({self.rule})" if self.rule else self.chain
        if not self.run_id:
            return f"{who}: no run, {self.why}"
        also = f", {self.why}" if self.why else ""
        return f"{who}: {'' if self.made else 'already '}run {self.run_id}{also}"


class Standing(Value):
    """State of a run at the time the ledger is read."""

    chain: str
    run_id: str
    state: str
    """Airflow's state of the run, or `SOON`, or `GONE`."""
    note: str = ""

    @property
    def word(self) -> str:
        """State for people, with an end that it would hide: `success`, `success (superseded)`."""
        return in_a_word(self.state, self.note)


class Entry(Value):
    """One observation, by a webhook or the sensor, of a change of a ref or image tag."""

    ref: str
    """Full git ref, or `repository:tag`."""
    commit: str
    """Commit, or digest; empty for a deleted ref."""
    before: str | None = None
    """Commit or digest that it moved from; empty for a new ref, None if unknown."""
    at: When
    """Time of the observation."""
    by: str
    """`sensor`, or `webhook` and the connection's id."""
    delivery_id: str = ""
    actor: str = ""
    outcomes: tuple[StartResult, ...] = ()
    why: str = ""
    """Remark on the change as a whole, such as why no chain takes it, or that it was known."""

    @property
    def sentence(self) -> str:
        """One line for people."""
        where = f"is at {self.commit[:19]}" if self.commit else "was deleted"
        runs = "; ".join(result.sentence for result in self.outcomes)
        parts = [part for part in (runs, self.why) if part]
        return f"{self.ref} {where}: {', '.join(parts) or 'no run'}"


class Looked(Entry):
    """An observation by the sensor."""

    since: When | None = None
    """Start of the last poll that had not seen the change; None if unknown."""


class Seen(NamedTuple):
    """An entry and its place."""

    place: str
    """The Dag that watches the source or namespace; empty if no chain takes anything from it."""
    entry: Entry


class Sight(Value):
    """A further observer of a change."""

    by: str
    after: float
    """Seconds after the first observation."""
    times: int = 1
    """Number of its reports: redeliveries, or several webhooks of one connection."""


class LedgerLine(Value):
    """A line of the ledger: one change with all its observations."""

    place: str
    ref: str
    commit: str
    at: datetime
    """Time of the first observation."""
    by: str
    """The first observer."""
    times: int = 1
    """Number of reports by the first observer."""
    last: datetime
    """Time of the last observation."""
    actor: str = ""
    also: tuple[Sight, ...] = ()
    outcomes: tuple[StartResult, ...] = ()
    """One per chain and rule: the one with a run, if any."""
    runs: tuple[Standing, ...] = ()
    """States of the results' runs."""
    why: str = ""
    gaps: tuple[str, ...] = ()
    """Observations that are missing, see `delivery_chain.core.events.gaps`."""

    def standing(self, result: StartResult) -> Standing | None:
        """The state of a result's run; None without a run, or if states were not read."""
        wanted = (result.chain, result.run_id)
        return next((run for run in self.runs if (run.chain, run.run_id) == wanted), None)

    @property
    def tellers(self) -> tuple[str, ...]:
        """All observers, the first one first."""
        return (self.by, *(sight.by for sight in self.also))

    @property
    def own(self) -> bool:
        """Whether the change is a chain's own write rather than a push."""
        return not self.outcomes and self.why in OWN_WRITES

    @property
    def name(self) -> str:
        """The ref as shown to people: `tag v1.0.0`, `branch main`, `shop/api:v1.0.0`."""
        kind, name = short_ref(self.ref)
        return f"{kind} {name}" if kind else name

    @property
    def short(self) -> str:
        """The first 12 digits of the commit or digest; `deleted` for a ref, `unknown` for an image without any."""
        nothing = "deleted" if self.ref.startswith("refs/") else "unknown"
        return self.commit.rpartition(":")[2][:12] or nothing


class EntryGroup:
    """The entries of one change, collected by `join`."""

    def __init__(self, first: Seen) -> None:
        self.place = first.place
        self.entries = [first.entry]
        self.runs = _runs(first.entry)

    def add(self, entry: Entry) -> None:
        """Add an observation."""
        self.entries.append(entry)
        self.runs |= _runs(entry)

    def change(self) -> LedgerLine:
        """Build the ledger line."""
        first = min(self.entries, key=_seen_at)
        times: dict[str, list[Entry]] = {}
        for entry in sorted(self.entries, key=_seen_at):
            times.setdefault(entry.by, []).append(entry)
        also = [
            Sight(by=by, after=max(0.0, (one[0].at - first.at).total_seconds()), times=len(one))
            for by, one in times.items()
            if by != first.by
        ]
        outcomes = _best(result for entry in self.entries for result in entry.outcomes)
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
    """Group the entries of the same change; the newest group first.

    Two entries of the same ref, commit and place belong to the same change

    - if both name the same run: run ids number a ref's stays at a commit;
    - or if one is a redelivery of the other;
    - or, unless both have runs to compare, if the ref was at no other commit between them.
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
    """Parse `30m`, `12h`, `1d` (ago), or an ISO time, which is UTC without a zone.

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
    """Sort key of an entry: among near-simultaneous ones, that which made a run is first, despite clock skew."""
    return entry.at - CLOCKS if any(result.made for result in entry.outcomes) else entry.at


def _runs(entry: Entry) -> set[tuple[str, str]]:
    return {(result.chain, result.run_id) for result in entry.outcomes if result.run_id}


def _stays(line: EntryGroup | None, entry: Entry) -> bool:
    return line is not None and line.entries[0].commit == entry.commit and not (line.runs and _runs(entry))


def _best(outcomes: Iterable[StartResult]) -> tuple[StartResult, ...]:
    """One result per chain and rule: preferably that which made a run, then one that found it, then one without."""
    found: dict[tuple[str, str], StartResult] = {}
    for result in outcomes:
        key = result.chain, result.rule
        if key not in found or _weight(result) > _weight(found[key]):
            found[key] = result
    return tuple(found.values())


def _weight(result: StartResult) -> int:
    return bool(result.run_id) + (result.made and bool(result.run_id))
