"""Reading JSON that somebody else wrote: strict types, bounded depth, and a clear refusal for all else.

Registries, and whoever may push to them, write what is read here. A `KeyError` never leaves this module.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from delivery_chain.errors import ProtocolViolation

if TYPE_CHECKING:
    from collections.abc import Collection

MAX_ANNOTATIONS = 1000
"""Annotations of one descriptor or manifest: real ones have a few dozen."""


def load_object(raw: bytes, what: str) -> dict[str, Any]:
    """Parse one JSON object.

    Args:
        raw: The bytes, already bounded by whoever read them.
        what: The thing for the error's message, such as `manifest sha256:…`.

    Returns:
        The object. A key that stands twice is refused: two programs could read two different images from it.

    Raises:
        ProtocolViolation: Not JSON, not an object, nested too deep, or a repeated key. Not retryable.
    """
    try:
        value = json.loads(raw, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ProtocolViolation(f"{what}: expected a JSON object, found {_brief(error)}") from error
    if not isinstance(value, dict):
        raise ProtocolViolation(f"{what}: expected a JSON object, found {_kind(value)}")
    return value


def exact_keys(data: dict[str, Any], known: Collection[str], what: str) -> None:
    """Refuse a known key in other letter cases: what is written in Go takes `Layers` for `layers`, and the last wins.

    Raises:
        ProtocolViolation: There is one. Not retryable.
    """
    folded = {key.casefold(): key for key in known}
    for key in data:
        meant = folded.get(key.casefold(), key)
        if meant != key:
            raise ProtocolViolation(
                f"{what}: expected the key {meant!r}, found {key[:80]!r}, which some read as it"
            )


def text(data: dict[str, Any], key: str, what: str, *, required: bool = False) -> str:
    """The string under `key`, or empty where it is left out and not `required`.

    Raises:
        ProtocolViolation: Missing although required, or not a string.
    """
    value = data.get(key)
    if value is None and not required:
        return ""
    if not isinstance(value, str) or (required and not value):
        raise ProtocolViolation(f"{what}: expected a string for {key!r}, found {_kind(value)}")
    return value


def number(data: dict[str, Any], key: str, what: str) -> int:
    """The whole number from 0 to 2^53 under `key`.

    Raises:
        ProtocolViolation: Missing, of another type, negative or too large.
    """
    value = data.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 2**53:
        raise ProtocolViolation(
            f"{what}: expected a whole number of 0 or more for {key!r}, found {_kind(value)}"
        )
    return value


def table(data: dict[str, Any], key: str, what: str) -> dict[str, Any] | None:
    """The object under `key`, or None where it is left out.

    Raises:
        ProtocolViolation: It is of another type.
    """
    value = data.get(key)
    if value is not None and not isinstance(value, dict):
        raise ProtocolViolation(f"{what}: expected an object for {key!r}, found {_kind(value)}")
    return value


def rows(data: dict[str, Any], key: str, what: str, *, limit: int) -> list[Any]:
    """The list under `key`, empty where it is left out or null.

    Raises:
        ProtocolViolation: It is of another type, or longer than `limit`.
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
    """The object of strings under `key` (annotations), empty where it is left out.

    Raises:
        ProtocolViolation: A value is not a string, or there are more than 1000.
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
        raise ValueError("a key that stands twice in one object")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name}, which JSON does not have")


def _kind(value: object) -> str:
    return "nothing" if value is None else type(value).__name__


def _brief(error: Exception) -> str:
    return "nesting too deep to read" if isinstance(error, RecursionError) else str(error)[:200]
