"""Typed reads of Trivy's report. It is foreign data: what is of another shape is refused, not guessed."""

from __future__ import annotations

import re
from typing import Any

from delivery_chain.errors import ScanFailed

LONGEST = 1_000
"""Characters of an id, a package, a version or a path. Longer ones are no such thing."""
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


def text(source: dict[str, Any], key: str, where: str, *, required: bool = True) -> str:
    """A text, cleaned; at most 1,000 characters."""
    value = source.get(key)
    if value is None and not required:
        return ""
    if not isinstance(value, str) or len(value) > LONGEST or (required and not clean(value)):
        raise refused(f"{where}.{key}: expected text of 1 to {LONGEST} characters, found {shown(value)}")
    return clean(value)


def clean(text: str) -> str:
    """Without control characters and halves of characters: what is logged stays on its line."""
    return _CONTROL.sub(" ", text).strip()


def mapping(value: object, where: str) -> dict[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise refused(f"{where}: expected an object, found {shown(value)}")
    return value


def items(value: object, where: str) -> list[Any]:
    """A list; one that is left out is empty."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise refused(f"{where}: expected a list, found {shown(value)}")
    return value


def shown(value: object) -> str:
    """A value as an error shows it: on one line, cut."""
    return clean(repr(value)[:200])


def refused(problem: str) -> ScanFailed:
    """The error for a report that is not understood."""
    return ScanFailed(
        f"trivy report: {problem}; the image does not pass. Use a Trivy version that this project knows",
        tool="trivy",
    )
