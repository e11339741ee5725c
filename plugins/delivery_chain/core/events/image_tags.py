"""Compares two listings of a registry's tags. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from delivery_chain.core.events.refs import natural_key
from delivery_chain.core.names.pattern import Pattern
from delivery_chain.core.names.tags import is_reserved
from delivery_chain.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def tag_changes(known: Mapping[str, str], seen: Mapping[str, str]) -> list[dict[str, str | None]]:
    """The tags of `seen` that are new or moved since `known`: `[{"name", "tag", "digest", "previous"}, …]`.

    Args:
        known: `name:tag` to digest, before; `name` is the repository with its namespace.
        seen: `name:tag` to digest, now.

    Returns:
        In natural order: by repository, and within one `v1.9` before `v1.10`. Every item has all four keys; `previous`
        is None for a new tag.
    """
    moved = sorted((split(key) for key in seen if known.get(key) != seen[key]), key=_order)
    return [
        {"name": name, "tag": tag, "digest": seen[f"{name}:{tag}"], "previous": known.get(f"{name}:{tag}")}
        for name, tag in moved
    ]


def tag_difference(known: Mapping[str, str], seen: Mapping[str, str]) -> dict[str, Any]:
    """Compare two listings; as JSON, in natural order.

    Returns:
        `{"refs": [{"name", "tag", "digest", "previous"}, …], "gone": ["name:tag", …], "seen": {…}}`.
    """
    gone = sorted(map(split, known.keys() - seen.keys()), key=_order)
    return {
        "refs": tag_changes(known, seen),
        "gone": [f"{name}:{tag}" for name, tag in gone],
        "seen": dict(seen),
    }


def split(key: str) -> tuple[str, str]:
    """Split `name:tag` into repository and tag: neither can contain a colon."""
    name, _, tag = key.partition(":")
    return name, tag


def tag_pattern(text: str | None) -> Pattern:
    """Compile a watch's pattern for tags.

    Args:
        text: Name, or regular expression for whole names; None for every tag.

    Raises:
        ConfigurationError: RE2 rejects the pattern.
    """
    try:
        return Pattern.guess(".*" if text is None else text)
    except ValueError as error:
        raise ConfigurationError(f"image tags {text!r:.200}: {error}; correct the pattern") from None


def counted(tags: Iterable[str], pattern: Pattern) -> list[str]:
    """The tags in a watch's scope: those that match, except tags reserved by chains and by referrers."""
    return [tag for tag in tags if not is_reserved(tag) and pattern.captures(tag) is not None]


def _order(key: tuple[str, str]) -> tuple[object, object]:
    return natural_key(key[0]), natural_key(key[1])
