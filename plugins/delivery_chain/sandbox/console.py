"""Prints plain lines to a pipe, and redrawn, coloured lines to a terminal."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Sequence

COLOURS = {"green": "32", "red": "31", "yellow": "33", "dim": "2", "bold": "1"}


class Console:
    """An output stream for people; on a terminal, a block of lines can be redrawn in place."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self.live = self._stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        """Whether lines can be redrawn."""
        self._colour = self.live and not os.environ.get("NO_COLOR")
        self._drawn = 0

    def line(self, text: str = "") -> None:
        """Print one line, below any block already drawn."""
        self._drawn = 0
        self._write(text + "\n")

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except BrokenPipeError:
            # The reader closed the pipe (`up | head`): continue silently. Redirect the descriptor itself, because
            # Python flushes the stream again at exit.
            # Source: Python's documentation of the module signal, "Note on SIGPIPE".
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    def paint(self, text: str, colour: str) -> str:
        """Wrap text in a colour of COLOURS if colours are enabled."""
        return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if self._colour and colour else text

    def redraw(self, lines: Sequence[tuple[str, str]]) -> None:
        """Draw a block in place of the last one; do nothing if lines can't be redrawn.

        Args:
            lines: Text and colour of each line; long lines are cut to the terminal's width.
        """
        if not self.live:
            return
        size = shutil.get_terminal_size()
        # A block taller than the screen would scroll its first lines out of reach.
        shown = [(text[: size.columns - 1], colour) for text, colour in lines[-(size.lines - 1) :]]
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        body = "".join(f"\x1b[2K{self.paint(text, colour)}\n" for text, colour in shown)
        self._write(f"{up}\r{body}\x1b[J")
        self._drawn = len(shown)

    def table(self, rows: Sequence[Sequence[str]], *, indent: str = "  ") -> None:
        """Print rows with aligned columns; the first row is the header."""
        for number, text in enumerate(align(rows)):
            self.line(indent + (self.paint(text, "dim") if number == 0 else text))


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Format rows as lines with aligned columns, two spaces apart."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def seconds(value: float) -> str:
    """Format a duration for people: `0.4 s`, `12 s`, `2 min 05 s`."""
    minute = 60
    if value < 10:  # noqa: PLR2004 - tenths matter only in short durations
        return f"{value:.1f} s"
    if value < minute:
        return f"{value:.0f} s"
    return f"{int(value) // minute} min {int(value) % minute:02d} s"
