"""Turn a program's output into log lines: bounded, printable, secrets masked. Pure."""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING
from urllib.parse import quote

from delivery_chain.errors import OUTPUT_LINES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

LINE_LENGTH = 2_000
"""Maximum number of characters of a line to keep."""
_BUFFER = 64 * 1024
"""Maximum number of bytes to buffer without a newline; the rest of the line is dropped."""
_MASK = "***"
_SHORTEST_PART = 8
"""Minimum length of a line of a multi-line secret (a key) to be masked by itself."""
_ENDS = re.compile(rb"[\r\n]+")
_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


class Masker:
    """Replaces secrets in text, and their URL-encoded forms, with `***`."""

    def __init__(self, secrets: Collection[str]) -> None:
        texts: set[str] = set()
        for secret in secrets:
            parts = [part for part in secret.splitlines() if len(part) >= _SHORTEST_PART]
            for text in (secret, secret.strip(), *parts):
                texts |= {text, quote(text), quote(text, safe="")}
        texts.discard("")
        # Longest first, so that a secret containing another one is masked whole.
        ordered = sorted(texts, key=lambda text: (-len(text), text))
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def __call__(self, text: str) -> str:
        """Return `text` with secrets masked."""
        return self._pattern.sub(_MASK, text) if self._pattern else text


class LineReader:
    """Splits a byte stream into lines."""

    def __init__(self, mask: Callable[[str], str], on_line: Callable[[str], None] | None = None) -> None:
        self._mask = mask
        self._on_line = on_line
        self._buffer = bytearray()
        self._dropping = False
        self._kept: deque[str] = deque(maxlen=OUTPUT_LINES)

    def feed(self, chunk: bytes) -> None:
        """Add bytes; every complete line is passed to `on_line`."""
        parts = _ENDS.split(chunk)
        for part in parts[:-1]:
            self._append(part)
            self._end()
        self._append(parts[-1])

    def close(self) -> None:
        """Emit the last line if it has no newline."""
        self._end()

    def last(self) -> tuple[str, ...]:
        """The last lines, oldest first."""
        return tuple(self._kept)

    def _append(self, part: bytes) -> None:
        if not self._dropping:
            self._buffer += part[: _BUFFER - len(self._buffer)]
            self._dropping = len(self._buffer) >= _BUFFER

    def _end(self) -> None:
        raw, self._buffer = bytes(self._buffer), bytearray()
        cut, self._dropping = self._dropping, False
        text = self._mask(_ESCAPES.sub("", raw.decode(errors="replace"))).rstrip()
        if not text:
            return
        if cut or len(text) > LINE_LENGTH:
            text = text[:LINE_LENGTH] + "…"
        self._kept.append(text)
        if self._on_line is not None:
            self._on_line(text)
