"""What the ledger lacks: a change that only one of the two saw, though both should have. Pure.

Only a change that some chain takes can have a gap; that of another ref makes no difference. The gaps are

- *no webhook told it*: the sensor alone saw it and made its runs, though webhooks told of this place by then: there was
  a connection of type webhook_sender that speaks for it, or another change of it had come that way. It says how late
  the sensor may have been: the push came between two of its looks;
- *the sensor has not seen it*: a webhook told it, it is the newest change of its ref, and the sensor has looked since
  and saw something else; or it has not looked, as its Dag is paused or its last run failed; or it ought to have seen
  it by now;
- *a webhook was lost*: a webhook told that the ref moved from a commit at which nobody had seen it;
- *a run has no plan*: it failed to make one, or has waited for too long, see `delivery_chain.core.events.unplanned`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from delivery_chain.core.events.dedupe import AGAIN, ANOTHER, LATE, LOST, REPLAYED
from delivery_chain.core.events.event import WEBHOOK
from delivery_chain.core.events.history import CLOCKS
from delivery_chain.core.events.ledger import SENSOR, Entry, EntryGroup, LedgerLine, Looked, Outcome
from delivery_chain.core.names.git_ref import short_ref
from delivery_chain.core.run.state import End
from delivery_chain.core.times import EPOCH

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from delivery_chain.core.events.unplanned import Unplanned

WEBHOOK_PATIENCE = timedelta(minutes=1)
"""How long a webhook may take when the sensor was faster."""
POLLS = 3
"""Looks that the sensor may take to see what a webhook told."""
SLACK = timedelta(seconds=60)
"""From a look to the cursor that says so: three tasks of Airflow's."""
NOT_FRESH = frozenset({AGAIN, ANOTHER, REPLAYED, LATE})
"""What a webhook's entry says that tells of no new place of its ref."""
UNSEEN = "the sensor has not seen it"
TOLD_AGAIN = (f"{End.SUPERSEDED}:", f"{End.BUILT}:")
"""What a run's note begins with that asked the source or the registry, and found the push an old one."""
HIDDEN = "chains that you may not see took it"
ALSO_HIDDEN = "chains that you may not see took it, too"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """How the sensor of one place is doing."""

    title: str
    """What it watches, for people."""
    senders: tuple[str, ...] = ()
    """Connections whose webhooks may tell of this place."""
    begun: datetime | None = None
    """Since when the first of them may; None for longer than anybody remembers."""
    paused: bool = False
    failed: bool = False
    """Whether the last run of its Dag failed."""
    failing: bool = False
    """Whether its last look failed, and is tried again."""
    poll: timedelta = timedelta(seconds=30)
    looked: datetime | None = None
    """When the look began that last saw something new; None before the first."""
    refs: Mapping[str, str] = field(default_factory=dict)
    """What it saw."""

    @property
    def idle(self) -> str:
        """Why it does not look; empty if it does."""
        if self.paused:
            return "its Dag is paused"
        if self.failing:
            return "its last look failed and is tried again"
        return "its last run failed" if self.failed else ""


def changes(
    lines: Iterable[EntryGroup],
    watches: Mapping[str, Watch],
    now: datetime,
    unplanned: Mapping[tuple[str, str], Unplanned] | None = None,
) -> list[LedgerLine]:
    """The lines with their gaps.

    Args:
        lines: All that are known, the newest first.
        watches: By Dag id. Places without a sensor have none.
        now: The time.
        unplanned: Runs whose task `plan` has not ended well, by chain and id.
    """
    without = unplanned or {}
    lines = list(lines)
    begun = _begun(lines, watches)
    newest: set[tuple[str, str]] = set()
    found: list[LedgerLine] = []
    for line in lines:
        change = line.change()
        gaps: list[str] = []
        if change.outcomes:
            watch = watches.get(line.place)
            gaps += _untold(line, begun.get(line.place), now)
            latest = (line.place, change.ref) not in newest
            gaps += _unseen(line, watch, now) if watch and latest else ()
            if any(entry.why == LOST for entry in line.entries):
                gaps.append(f"a webhook was lost: {LOST}")
                change = change.model_copy(update={"why": "" if change.why == LOST else change.why})
            runs = dict.fromkeys((one.chain, one.run_id) for one in change.outcomes)
            gaps += filter(None, (without[run].gap(now) for run in runs if run in without))
        if any(entry.why not in NOT_FRESH for entry in line.entries):
            newest.add((line.place, change.ref))
        found.append(change.model_copy(update={"gaps": tuple(gaps)}))
    return found


def settled(change: LedgerLine) -> LedgerLine:
    """Drop the gap that the sensor missed a push, where each of its runs found that it is an old push redelivered.

    Args:
        change: With its runs as they stand now.
    """
    if not change.runs or not all(run.note.startswith(TOLD_AGAIN) for run in change.runs):
        return change
    gaps = tuple(gap for gap in change.gaps if not gap.startswith(UNSEEN))
    return change.model_copy(update={"gaps": gaps})


def _begun(lines: Iterable[EntryGroup], watches: Mapping[str, Watch]) -> dict[str, datetime]:
    """Since when webhooks tell of each place: what was pushed before has no gap for their silence."""
    found = {place: watch.begun or EPOCH for place, watch in watches.items() if watch.senders}
    for line in lines:
        watch = watches.get(line.place)
        listed = {f"{WEBHOOK}{name}" for name in watch.senders} if watch else ()
        # Of a sender that can't be listed it is known from its first word on.
        times = [one.at for one in line.entries if one.by != SENSOR and one.by not in listed]
        for time in times:
            found[line.place] = min(time, found.get(line.place, time))
    return found


def _untold(line: EntryGroup, begun: datetime | None, now: datetime) -> list[str]:
    """The sensor's alone, and it found no run of somebody else's."""
    made = any(outcome.made for entry in line.entries for outcome in entry.outcomes)
    first = line.entries[0]
    if not made or any(entry.by != SENSOR for entry in line.entries) or now - first.at < WEBHOOK_PATIENCE:
        return []
    since = first.since if isinstance(first, Looked) else None
    # The push was made between two looks.
    if begun is None or (since or first.at) < begun:
        return []
    late = f", up to {span(first.at - since)} after the push" if since else ""
    return [f"no webhook told it: the sensor found it{late}"]


def _unseen(line: EntryGroup, watch: Watch, now: datetime) -> list[str]:
    """A webhook's alone, which the sensor should know by now."""
    told = [entry for entry in line.entries if entry.why not in NOT_FRESH]
    if not told or any(entry.by == SENSOR for entry in line.entries):
        return []
    first: Entry = told[0]
    here = watch.refs.get(first.ref, "")
    if here == first.commit:
        return []
    if watch.looked and watch.looked > first.at + CLOCKS:
        saw = f"it at {here.rpartition(':')[2][:12]}" if here else "no such ref"
        return [f"{UNSEEN}: it looked since, and saw {saw}"]
    if watch.idle:
        return [f"{UNSEEN}: {watch.idle}"]
    waited = now - first.at
    if waited > POLLS * watch.poll + SLACK:
        return [f"{UNSEEN} for {span(waited)}"]
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which lines somebody wants to see; empty for all."""

    source: str = ""
    """Part of the place's name."""
    chain: str = ""
    ref: str = ""
    """Full or short name, or a pattern with `*`."""
    gaps: bool = False
    """Just those with gaps."""
    own: bool = False
    """Those too that chains wrote themselves: staging tags, backups, the images that they built."""

    def takes(self, change: LedgerLine, watch: Watch | None) -> bool:
        """Whether a line is wanted."""
        # What no chain takes is at no place; the reason names the repository.
        place = f"{change.place} {watch.title if watch else ''}" if change.place else change.why
        return (
            self.source.lower() in place.lower()
            and (not self.chain or any(outcome.chain == self.chain for outcome in change.outcomes))
            and (not self.ref or any(fnmatchcase(name, self.ref) for name in _names(change)))
            and (not self.gaps or bool(change.gaps))
            and (self.own or not change.own)
        )


def for_reader(change: LedgerLine, readable: Collection[str]) -> LedgerLine:
    """The line without the chains that its reader may not see."""
    kept: tuple[Outcome, ...] = tuple(one for one in change.outcomes if one.chain in readable)
    if len(kept) == len(change.outcomes):
        return change
    parts = [change.why, ALSO_HIDDEN if kept else HIDDEN]
    return change.model_copy(update={"outcomes": kept, "why": "; ".join(filter(None, parts))})


def span(time: timedelta) -> str:
    """A length of time for people, of at most two units: `4 s`, `3 min`, `2 h 5 min`, `3 d 1 h`."""
    seconds = max(0, round(time.total_seconds()))
    for size, unit, below, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if seconds >= size:
            rest = seconds % size // below
            return f"{seconds // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{seconds // 60} min" if seconds >= 120 else f"{seconds} s"  # noqa: PLR2004 - two minutes


def _names(change: LedgerLine) -> set[str]:
    repository, colon, _ = change.ref.rpartition(":")
    return {change.ref, short_ref(change.ref)[1], *([repository] if colon else ())}
