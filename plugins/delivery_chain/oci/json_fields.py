"""Read untrusted JSON: strict types, bounded depth, and a clear error for everything else.

The input comes from registries and anyone who can push to them. A `KeyError` never leaves this module.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from delivery_chain.errors import ProtocolViolation

if TYPE_CHECKING:
    from collections.abc import Collection

MAX_ANNOTATIONS = 1000
"""Maximum number of annotations of one descriptor or manifest: real ones have a few dozen."""


def load_object(raw: bytes, what: str) -> dict[str, Any]:
    """Parse one JSON object.

    Args:
        raw: The bytes; the caller limits their size.
        what: Name of the document for errors, such as `manifest sha256:…`.

    Returns:
        The object.

    Raises:
        ProtocolViolation: The bytes are not a JSON object, are nested too deeply, or repeat a key, from which two
            parsers could read two different images. Not retryable.
    """
    try:
        value = json.loads(raw, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ProtocolViolation(f"{what}: expected a JSON object, found {_brief(error)}") from error
    if not isinstance(value, dict):
        raise ProtocolViolation(f"{what}: expected a JSON object, found {_kind(value)}")
    return value


def exact_keys(data: dict[str, Any], known: Collection[str], what: str) -> None:
    """Reject a known key in different letter case: Go's parser reads `Layers` as `layers`, and the last one wins.

    Raises:
        ProtocolViolation: Such a key is present. Not retryable.
    """
    folded = {key.casefold(): key for key in known}
    for key in data:
        meant = folded.get(key.casefold(), key)
        if meant != key:
            raise ProtocolViolation(
                f"{what}: expected the key {meant!r}, found {key[:80]!r}, which some parsers read as the same key"
            )


def text(data: dict[str, Any], key: str, what: str, *, required: bool = False) -> str:
    """Return the string under `key`, or an empty one if it is absent and not `required`.

    Raises:
        ProtocolViolation: The value is missing although required, or not a string.
    """
    value = data.get(key)
    if value is None and not required:
        return ""
    if not isinstance(value, str) or (required and not value):
        raise ProtocolViolation(f"{what}: expected a string for {key!r}, found {_kind(value)}")
    return value


def number(data: dict[str, Any], key: str, what: str) -> int:
    """Return the whole number under `key`, 0 to 2^53.

    Raises:
        ProtocolViolation: The value is missing, of another type, negative or too large.
    """
    value = data.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 2**53:
        raise ProtocolViolation(
            f"{what}: expected a whole number of 0 or more for {key!r}, found {_kind(value)}"
        )
    return value


def table(data: dict[str, Any], key: str, what: str) -> dict[str, Any] | None:
    """Return the object under `key`, or None if it is absent.

    Raises:
        ProtocolViolation: The value is of another type.
    """
    value = data.get(key)
    if value is not None and not isinstance(value, dict):
        raise ProtocolViolation(f"{what}: expected an object for {key!r}, found {_kind(value)}")
    return value


def rows(data: dict[str, Any], key: str, what: str, *, limit: int) -> list[Any]:
    """Return the list under `key`, empty if it is absent or null.

    Raises:
        ProtocolViolation: The value is of another type, or longer than `limit`.
    """
    value = data.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise ProtocolViolation(f"{what}: expected a list for {key!r}, found {_kind(value)}")
    if len(value) > limit:
        raise ProtocolViolation(f"{what}: expected at most {limit} entries in {key!r}, found {len(value)}")
    return value


def strings(data: dict[str, Any], key: str, what: str) -> dict[str, str]:
    """Return the map of strings under `key` (annotations), empty if it is absent.

    Raises:
        ProtocolViolation: A value is not a string, or the map has more than 1000 entries.
    """
    found = table(data, key, what) or {}
    if len(found) > MAX_ANNOTATIONS:
        raise ProtocolViolation(f"{what}: expected at most {MAX_ANNOTATIONS} {key}, found {len(found)}")
    for name, value in found.items():
        if not isinstance(value, str):
            raise ProtocolViolation(
                f"{what}: expected a string for {key}[{name[:80]!r}], found {_kind(value)}"
            )
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a duplicate key")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name}, which JSON does not have")


def _kind(value: object) -> str:
    return "nothing" if value is None else type(value).__name__


def _brief(error: Exception) -> str:
    return "nesting too deep to read" if isinstance(error, RecursionError) else str(error)[:200]
