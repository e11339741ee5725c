"""Finds gaps in the ledger: changes that only the webhooks or only the sensor saw, though both should have. Pure.

A *place* is what one sensor watches: a git source, or the images of a namespace. Only a change that some chain takes
can have a gap. The gaps are

- *no webhook reported it*: only the sensor saw the change and started its runs, although webhooks covered the place by
  then: a connection of type webhook_sender spoke for it, or an earlier change of it came from a webhook. The push
  happened between two polls, so the gap gives the time between them, the longest possible delay;
- *the sensor has not seen it*: a webhook reported the newest change of its ref, and the sensor has polled since and saw
  something else; or does not poll, because its Dag is paused or its last run failed; or should have seen it by now;
- *a webhook was lost*: a webhook reported that the ref moved from a commit that is not in the ref's history;
- *a run has no plan*: its planning failed, or is overdue, see `delivery_chain.core.events.unplanned`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from delivery_chain.core.events.dedupe import AGAIN, ANOTHER, LATE, LOST, REPLAYED
from delivery_chain.core.events.event import WEBHOOK
from delivery_chain.core.events.history import CLOCKS
from delivery_chain.core.events.ledger import SENSOR, Entry, EntryGroup, LedgerLine, Looked, StartResult
from delivery_chain.core.names.git_ref import short_ref
from delivery_chain.core.run.end import End
from delivery_chain.core.times import EPOCH

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from delivery_chain.core.events.unplanned import Unplanned

WEBHOOK_PATIENCE = timedelta(minutes=1)
"""Time by which a webhook may lag behind the sensor."""
POLLS = 3
"""Polls within which the sensor should see a change that a webhook reported."""
SLACK = timedelta(seconds=60)
"""Time from a poll to the update of the cursor: three Airflow tasks run in between."""
NOT_FRESH = frozenset({AGAIN, ANOTHER, REPLAYED, LATE})
"""Reasons of webhook entries that report no new position of their ref."""
UNSEEN = "the sensor has not seen it"
TOLD_AGAIN = (f"{End.SUPERSEDED}:", f"{End.BUILT}:")
"""Prefixes of the note of a run that checked the source or the registry, and found its push to be an old one."""
HIDDEN = "chains that you may not see took it"
ALSO_HIDDEN = "chains that you may not see took it, too"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Status of the sensor of one place."""

    title: str
    """Display name of the watched place."""
    senders: tuple[str, ...] = ()
    """Connections whose webhooks may report changes of this place."""
    begun: datetime | None = None
    """Time since which the first of these connections may; None if that predates all records."""
    paused: bool = False
    failed: bool = False
    """Whether the last run of its Dag failed."""
    failing: bool = False
    """Whether its last poll failed and is being retried."""
    poll: timedelta = timedelta(seconds=30)
    looked: datetime | None = None
    """Start of the last poll that saw something new; None before the first."""
    refs: Mapping[str, str] = field(default_factory=dict)
    """Maps each ref to the commit or digest that the sensor saw."""

    @property
    def idle(self) -> str:
        """Reason why the sensor does not poll; empty if it does."""
        if self.paused:
            return "its Dag is paused"
        if self.failing:
            return "its last poll failed and is being retried"
        return "its last run failed" if self.failed else ""


def changes(
    lines: Iterable[EntryGroup],
    watches: Mapping[str, Watch],
    now: datetime,
    unplanned: Mapping[tuple[str, str], Unplanned] | None = None,
) -> list[LedgerLine]:
    """Turn groups of entries into ledger lines with their gaps.

    Args:
        lines: All known groups, the newest first.
        watches: By Dag id; places without a sensor are absent.
        now: The current time.
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
            gaps += _unreported(line, begun.get(line.place), now)
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
    """Drop the gap of a push that the sensor did not see, if all runs of it found it to be an old push.

    Args:
        change: A line with the current states of its runs.
    """
    if not change.runs or not all(run.note.startswith(TOLD_AGAIN) for run in change.runs):
        return change
    gaps = tuple(gap for gap in change.gaps if not gap.startswith(UNSEEN))
    return change.model_copy(update={"gaps": gaps})


def _begun(lines: Iterable[EntryGroup], watches: Mapping[str, Watch]) -> dict[str, datetime]:
    """The time when webhooks began to cover each place; for earlier pushes, a missing webhook is no gap."""
    found = {place: watch.begun or EPOCH for place, watch in watches.items() if watch.senders}
    for line in lines:
        watch = watches.get(line.place)
        listed = {f"{WEBHOOK}{name}" for name in watch.senders} if watch else ()
        # For a sender that can't be listed, the time of its first webhook counts.
        times = [one.at for one in line.entries if one.by != SENSOR and one.by not in listed]
        for time in times:
            found[line.place] = min(time, found.get(line.place, time))
    return found


def _unreported(line: EntryGroup, begun: datetime | None, now: datetime) -> list[str]:
    """The gap of a change that only the sensor saw, and that had no run before."""
    made = any(result.made for entry in line.entries for result in entry.outcomes)
    first = line.entries[0]
    if not made or any(entry.by != SENSOR for entry in line.entries) or now - first.at < WEBHOOK_PATIENCE:
        return []
    since = first.since if isinstance(first, Looked) else None
    # The push happened between two polls.
    if begun is None or (since or first.at) < begun:
        return []
    late = f", up to {span(first.at - since)} after the push" if since else ""
    return [f"no webhook reported it: the sensor found it{late}"]


def _unseen(line: EntryGroup, watch: Watch, now: datetime) -> list[str]:
    """The gap of a change that only webhooks reported, and that the sensor should have seen by now."""
    fresh = [entry for entry in line.entries if entry.why not in NOT_FRESH]
    if not fresh or any(entry.by == SENSOR for entry in line.entries):
        return []
    first: Entry = fresh[0]
    here = watch.refs.get(first.ref, "")
    if here == first.commit:
        return []
    if watch.looked and watch.looked > first.at + CLOCKS:
        saw = f"it at {here.rpartition(':')[2][:12]}" if here else "no such ref"
        return [f"{UNSEEN}: it polled since, and saw {saw}"]
    if watch.idle:
        return [f"{UNSEEN}: {watch.idle}"]
    waited = now - first.at
    if waited > POLLS * watch.poll + SLACK:
        return [f"{UNSEEN} for {span(waited)}"]
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A filter for ledger lines; an empty field matches all."""

    source: str = ""
    """Part of the place's name."""
    chain: str = ""
    ref: str = ""
    """Full or short name, or a pattern with `*`."""
    gaps: bool = False
    """Only lines with gaps."""
    own: bool = False
    """Include the chains' own writes: staging tags, backups, the images that they built."""

    def takes(self, change: LedgerLine, watch: Watch | None) -> bool:
        """Whether a line passes the filter."""
        # A change that no chain takes has no place; its reason names the repository.
        place = f"{change.place} {watch.title if watch else ''}" if change.place else change.why
        return (
            self.source.lower() in place.lower()
            and (not self.chain or any(result.chain == self.chain for result in change.outcomes))
            and (not self.ref or any(fnmatchcase(name, self.ref) for name in _names(change)))
            and (not self.gaps or bool(change.gaps))
            and (self.own or not change.own)
        )


def for_reader(change: LedgerLine, readable: Collection[str]) -> LedgerLine:
    """Return the line without the chains that its reader may not see."""
    kept: tuple[StartResult, ...] = tuple(one for one in change.outcomes if one.chain in readable)
    if len(kept) == len(change.outcomes):
        return change
    parts = [change.why, ALSO_HIDDEN if kept else HIDDEN]
    return change.model_copy(update={"outcomes": kept, "why": "; ".join(filter(None, parts))})


def span(time: timedelta) -> str:
    """Format a duration in at most two units: `4 s`, `3 min`, `2 h 5 min`, `3 d 1 h`."""
    seconds = max(0, round(time.total_seconds()))
    for size, unit, below, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if seconds >= size:
            rest = seconds % size // below
            return f"{seconds // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{seconds // 60} min" if seconds >= 120 else f"{seconds} s"  # noqa: PLR2004 - two minutes


def _names(change: LedgerLine) -> set[str]:
    repository, colon, _ = change.ref.rpartition(":")
    return {change.ref, short_ref(change.ref)[1], *([repository] if colon else ())}
