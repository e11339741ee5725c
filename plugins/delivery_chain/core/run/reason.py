"""The one line of an error that tells a person what happened. Pure."""

from __future__ import annotations

import re

LONGEST = 300
"""Characters of a reason."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def one_line(text: str) -> str:
    """The first line that says something, without control characters, at most `LONGEST` characters."""
    for line in text.splitlines():
        said = " ".join(_CONTROL.sub(" ", line).split())
        if said:
            return said if len(said) <= LONGEST else said[: LONGEST - 1] + "…"
    return ""
