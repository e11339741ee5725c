"""Progress of a copy: counted while it runs, read as a frozen snapshot at any moment."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW = 5.0
"""Window, in seconds, over which the current rate is measured."""
EVERY = 0.1
"""Minimum number of seconds between two reports: a piece of 1 MiB comes every few milliseconds."""


@dataclass(frozen=True, slots=True)
class TargetProgress:
    """Progress of one target."""

    target: str
    """`host/name`."""
    blobs_done: int
    blobs_total: int
    bytes_done: int
    """Bytes of blobs at the target, including those it had or mounted."""
    bytes_total: int
    sent: int
    """Bytes sent over the wire."""
    rate: float
    """Current rate in bytes per second."""
    seconds_left: float | None
    """Estimated time left in seconds; None while the rate is unknown, 0 once all blobs are there."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Snapshot of all targets."""

    seconds: float
    """Seconds since the copy began."""
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
    """Counters for all targets of a copy. Thread-safe."""

    def __init__(
        self,
        targets: tuple[str, ...],
        report: Callable[[Progress], None] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create counters at zero.

        Args:
            targets: `host/name` of each target.
            report: Called with a snapshot, at most ten times a second and by one thread at a time.
            clock: Seconds.
        """
        self._rows = {target: _Row() for target in targets}
        self._report = report
        self._clock = clock
        self._began = clock()
        self._reported = float("-inf")
        self._lock = threading.Lock()

    def expect(self, target: str, blobs: int, size: int) -> None:
        """Add `blobs` blobs of `size` bytes in total to the expected work."""
        with self._lock:
            self._rows[target].blobs_total += blobs
            self._rows[target].bytes_total += size
            self._report_if_due()

    def kept(self, target: str, size: int) -> None:
        """Count bytes that a previous attempt already sent to a target."""
        with self._lock:
            self._rows[target].bytes_done += size
            self._report_if_due()

    def sent(self, target: str, size: int) -> None:
        """Count bytes sent to a target; negative if they were lost."""
        with self._lock:
            row = self._rows[target]
            row.bytes_done += size
            row.sent += max(size, 0)
            _remember(row, self._clock())
            self._report_if_due()

    def blob_done(self, target: str, size: int = 0) -> None:
        """Count a completed blob, of which `size` bytes did not have to be sent."""
        with self._lock:
            self._rows[target].blobs_done += 1
            self._rows[target].bytes_done += size
            self._report_if_due()

    def finish(self) -> None:
        """Report the final state, however recent the last report was."""
        with self._lock:
            self._reported = float("-inf")
            self._report_if_due()

    def now(self) -> Progress:
        """Return a snapshot."""
        with self._lock:
            return self._now()

    def _report_if_due(self) -> None:
        now = self._clock()
        if self._report is not None and now - self._reported >= EVERY:
            self._reported = now
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
