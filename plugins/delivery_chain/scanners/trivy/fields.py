"""Read typed fields of Trivy's report. It is untrusted data: an unexpected shape is refused, not guessed."""

from __future__ import annotations

import re
from typing import Any

from delivery_chain.errors import ScanFailed

LONGEST = 1_000
"""Maximum length, in characters, of an id, a package, a version or a path; longer ones are refused."""
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


def text(source: dict[str, Any], key: str, where: str, *, required: bool = True) -> str:
    """Return a field's text, cleaned; refuse the report if it is too long."""
    value = source.get(key)
    if value is None and not required:
        return ""
    if not isinstance(value, str) or len(value) > LONGEST or (required and not clean(value)):
        raise refused(f"{where}.{key}: expected text of 1 to {LONGEST} characters, found {shown(value)}")
    return clean(value)


def clean(text: str) -> str:
    """Replace control characters and lone surrogates, so that logged text stays on its line."""
    return _CONTROL.sub(" ", text).strip()


def mapping(value: object, where: str) -> dict[str, Any]:
    """Return a JSON object, or refuse the report."""
    if not isinstance(value, dict):
        raise refused(f"{where}: expected an object, found {shown(value)}")
    return value


def items(value: object, where: str) -> list[Any]:
    """Return a list, empty if omitted, or refuse the report."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise refused(f"{where}: expected a list, found {shown(value)}")
    return value


def shown(value: object) -> str:
    """Format a value for an error: on one line, truncated."""
    return clean(repr(value)[:200])


def refused(problem: str) -> ScanFailed:
    """Return the error for a report that is not understood."""
    return ScanFailed(
        f"trivy report: {problem}; the image does not pass. Use a Trivy version that this project supports",
        tool="trivy",
    )
