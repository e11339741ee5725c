"""Reduce an error to one readable line. Pure."""

from __future__ import annotations

import re

LONGEST = 300
"""Maximum length, in characters, of a reason."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def one_line(text: str) -> str:
    """First non-blank line, without control characters, at most `LONGEST` characters."""
    for line in text.splitlines():
        said = " ".join(_CONTROL.sub(" ", line).split())
        if said:
            return said if len(said) <= LONGEST else said[: LONGEST - 1] + "…"
    return ""
