"""Display progress: one line per target in a terminal, or an occasional line in a log."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

    from delivery_chain.oci.copy.progress import Progress, TargetProgress

LOG_EVERY = 10.0
"""Minimum number of seconds between two lines of a log."""
_UNITS = ("B", "kB", "MB", "GB", "TB")
_STEP = 1000.0
_MINUTE = 60
_HOUR = 3600


def size_text(size: float) -> str:
    """Format bytes: `1.5 GB`, `0 B`."""
    for unit in _UNITS[:-1]:
        if size < _STEP:
            return f"{size:.0f} {unit}" if unit == "B" or size >= _STEP / 10 else f"{size:.1f} {unit}"
        size /= _STEP
    return f"{size:.1f} {_UNITS[-1]}"


def time_text(seconds: float) -> str:
    """Format a duration: `8 s`, `2 min 5 s`, `1 h 10 min`."""
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"


def target_line(row: TargetProgress) -> str:
    """Format one target: `eu.example.com/shop/api: 12 of 30 blobs, 1.1 of 2.0 GB, 310 MB/s, 3 s left`."""
    if row.blobs_done == row.blobs_total:
        return f"{row.target}: all {row.blobs_total} blobs, {size_text(row.bytes_total)} ({size_text(row.sent)} sent)"
    left = "" if row.seconds_left is None else f", {time_text(row.seconds_left)} left"
    return (
        f"{row.target}: {row.blobs_done} of {row.blobs_total} blobs, "
        f"{size_text(row.bytes_done)} of {size_text(row.bytes_total)}, {size_text(row.rate)}/s{left}"
    )


class PacedLog:
    """Progress log: a line at the start, at most every ten seconds, and at the end (call `close`)."""

    def __init__(
        self,
        write: Callable[[str], object],
        *,
        every: float = LOG_EVERY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create a log; nothing is written yet.

        Args:
            write: Writes one line: `log.info`.
            every: Minimum number of seconds between two lines.
            clock: Seconds.
        """
        self._write = write
        self._every = every
        self._clock = clock
        self._next = float("-inf")
        self._last: Progress | None = None
        self._shown: tuple[TargetProgress, ...] = ()
        self._lock = threading.Lock()

    def __call__(self, progress: Progress) -> None:
        """Record the progress, and write a line if one is due."""
        with self._lock:
            self._last = progress
            if self._clock() >= self._next:
                self._show(progress)

    def close(self) -> None:
        """Write the final progress, unless the last line already shows it."""
        with self._lock:
            if self._last is not None and self._last.targets != self._shown:
                self._show(self._last)

    def _show(self, progress: Progress) -> None:
        self._next = self._clock() + self._every
        self._shown = progress.targets
        for row in progress.targets:
            self._write(target_line(row))


class LiveLines:
    """Progress display for a terminal: one line per target, redrawn in place."""

    def __init__(self, stream: TextIO, width: int) -> None:
        """Create a display; nothing is drawn yet.

        Args:
            stream: The terminal.
            width: Its columns.
        """
        self._stream = stream
        self._width = width
        self._drawn = 0

    def __call__(self, progress: Progress) -> None:
        """Redraw the lines."""
        back = f"\x1b[{self._drawn}F" if self._drawn else ""
        lines = "".join(f"\x1b[2K{target_line(row)[: self._width - 1]}\n" for row in progress.targets)
        self._stream.write(back + lines)
        self._stream.flush()
        self._drawn = len(progress.targets)

    def close(self) -> None:
        """Leave the last lines as they are."""
        self._drawn = 0
