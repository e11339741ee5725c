"""How far a copy is: counted while it runs, read as one frozen value at any moment."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW = 5.0
"""Seconds over which the present rate is taken."""
EVERY = 0.1
"""Seconds between two reports at least: a piece of 1 MiB comes every few milliseconds."""


@dataclass(frozen=True, slots=True)
class TargetProgress:
    """One target's share."""

    target: str
    """`host/name`."""
    blobs_done: int
    blobs_total: int
    bytes_done: int
    """Bytes of blobs that are at the target, those that it had or mounted included."""
    bytes_total: int
    sent: int
    """Bytes that went over the wire to it."""
    rate: float
    """Bytes a second over the last seconds."""
    seconds_left: float | None
    """None while there is no rate yet; 0 when all blobs are there."""


@dataclass(frozen=True, slots=True)
class Progress:
    """All targets at one moment."""

    seconds: float
    """Since the copy began."""
    targets: tuple[TargetProgress, ...]


@dataclass(slots=True)
class _Row:
    blobs_done: int = 0
    blobs_total: int = 0
    bytes_done: int = 0
    bytes_total: int = 0
    sent: int = 0
    recent: deque[tuple[float, int]] = field(default_factory=deque)


class Meter:
    """Counts for all targets of a copy. Safe to use from threads."""

    def __init__(
        self,
        targets: tuple[str, ...],
        report: Callable[[Progress], None] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin at zero.

        Args:
            targets: `host/name` of each.
            report: Called with the state of things, at most ten times a second and by one thread at a time.
            clock: Seconds.
        """
        self._rows = {target: _Row() for target in targets}
        self._report = report
        self._clock = clock
        self._began = clock()
        self._told = float("-inf")
        self._lock = threading.Lock()

    def expect(self, target: str, blobs: int, size: int) -> None:
        """More is to come: `blobs` with `size` bytes together."""
        with self._lock:
            self._rows[target].blobs_total += blobs
            self._rows[target].bytes_total += size
            self._tell()

    def kept(self, target: str, size: int) -> None:
        """Bytes are at a target from an attempt before."""
        with self._lock:
            self._rows[target].bytes_done += size
            self._tell()

    def sent(self, target: str, size: int) -> None:
        """Bytes went out to a target; negative where they went for nothing."""
        with self._lock:
            row = self._rows[target]
            row.bytes_done += size
            row.sent += max(size, 0)
            _remember(row, self._clock())
            self._tell()

    def blob_done(self, target: str, size: int = 0) -> None:
        """A blob is at a target; `size` bytes of it were not sent."""
        with self._lock:
            self._rows[target].blobs_done += 1
            self._rows[target].bytes_done += size
            self._tell()

    def finish(self) -> None:
        """Report the end, whenever the last report was."""
        with self._lock:
            self._told = float("-inf")
            self._tell()

    def now(self) -> Progress:
        """The state of things."""
        with self._lock:
            return self._now()

    def _tell(self) -> None:
        now = self._clock()
        if self._report is not None and now - self._told >= EVERY:
            self._told = now
            self._report(self._now())

    def _now(self) -> Progress:
        now = self._clock()
        rows = tuple(_progress(target, row, now) for target, row in self._rows.items())
        return Progress(now - self._began, rows)


def _remember(row: _Row, now: float) -> None:
    if not row.recent or now - row.recent[-1][0] >= EVERY:
        row.recent.append((now, row.sent))
    while len(row.recent) > 1 and row.recent[0][0] < now - WINDOW:
        row.recent.popleft()


def _progress(target: str, row: _Row, now: float) -> TargetProgress:
    since, before = row.recent[0] if row.recent else (now, row.sent)
    rate = (row.sent - before) / (now - since) if now > since else 0.0
    left = row.bytes_total - row.bytes_done
    seconds = 0.0 if row.blobs_done == row.blobs_total else left / rate if rate > 0 else None
    return TargetProgress(
        target, row.blobs_done, row.blobs_total, row.bytes_done, row.bytes_total, row.sent, rate, seconds
    )
