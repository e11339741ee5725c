"""One ref that moves about, under webhooks and polls, as `dedupe` sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from delivery_chain.core.events.dedupe import (
    SUPERSEDED,
    Change,
    Move,
    choose,
    judge,
    look_at,
)
from delivery_chain.core.events.history import History, Sighting, Told

if TYPE_CHECKING:
    from collections.abc import Callable


NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
COMMITS = ("a", "b", "c")


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


@dataclass
class Ref:
    """One ref as the receiver and the sensor of one chain take it, with the runs that they make."""

    history: History = ()
    position: Callable[[datetime], str] | None = None
    """Where the ref truly is: a run that finds it elsewhere is superseded, and stands for no stay."""
    cursor: tuple[str, datetime] | None = None
    runs: dict[tuple[str, int], tuple[datetime, datetime | None]] = field(default_factory=dict)
    """When the push of each run was seen, and when the run found its ref elsewhere, if it did."""
    sensed: dict[str, datetime] = field(default_factory=dict)
    """When the sensor saw the push of the newest run that it made, by commit."""
    made: list[tuple[str, datetime]] = field(default_factory=list)
    """Each run's commit, and when it was started."""
    taken: set[tuple[str, int]] = field(default_factory=set)
    """Commit and number of the ids under which a person has started a run, whatever its conf claims."""

    def made_of(self, commit: str, looked: datetime | None) -> dict[int, datetime]:
        ours = {
            visit: SUPERSEDED if looked and void and void < looked else seen
            for (name, visit), (seen, void) in self.runs.items()
            if name == commit
        }
        return {visit: SUPERSEDED for name, visit in self.taken if name == commit} | ours

    def start(
        self,
        commit: str,
        since: datetime | None,
        seen: datetime,
        now: datetime,
        looked: datetime | None = None,
    ) -> None:
        visit, there = choose(self.made_of(commit, looked), since)
        if not there:
            void = self.position is not None and self.position(now) != commit
            self.runs[commit, visit] = seen, now if void else None
            if looked:
                self.sensed[commit] = seen
            self.made.append((commit, now))

    def hears(
        self, before: str | None, after: str, *, now: datetime, delivery: str, teller: str = "hook"
    ) -> str:
        watched = Sighting(commit=self.cursor[0], before=None, at=self.cursor[1]) if self.cursor else None
        move = Move(before=before, after=after, teller=teller, delivery_id=delivery, now=now)
        judged = judge(self.history, move, watched, self.sensed.get(after))
        self.history = judged.history
        if judged.fresh and after:
            assert judged.at is not None
            self.start(after, judged.since, judged.at, now)
        return judged.why

    def looks(self, commit: str, now: datetime) -> None:
        if self.cursor and commit:
            known, since = self.cursor
            between = Told(refs={"r": self.history}).between({"r": commit}, since=since, looked=now)
            previous = between.get("r", known)
            if previous != commit:
                change = Change(commit=commit, previous=previous, looked=now, since=since)
                self.start(commit, look_at(self.history, change).since, now, now, now)
        self.cursor = commit, now

    @property
    def built(self) -> list[str]:
        return [commit for commit, _ in self.made]
