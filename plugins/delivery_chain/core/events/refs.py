"""Compares two listings of a git source's refs. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from delivery_chain.core.names.git_ref import BRANCHES, TAGS
from delivery_chain.core.names.pattern import Pattern
from delivery_chain.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_WATCHED = 20_000
"""Maximum number of refs per watch: some 2 MB in Airflow's database."""
_DIGITS = re.compile(r"([0-9]+)")


def changes(known: Mapping[str, str], seen: Mapping[str, str]) -> list[dict[str, str | None]]:
    """The refs of `seen` that are new or moved since `known`: `[{"ref", "commit", "previous"}, …]`.

    Args:
        known: Full ref name to commit, before.
        seen: Full ref name to commit, now.

    Returns:
        In natural order of the names: branches before tags, `v1.9` before `v1.10`. Every item has all three keys;
        `previous` is None for a new ref.
    """
    return [
        {"ref": ref, "commit": seen[ref], "previous": known.get(ref)}
        for ref in sorted(seen, key=natural_key)
        if known.get(ref) != seen[ref]
    ]


def gone(known: Mapping[str, str], seen: Mapping[str, str]) -> tuple[str, ...]:
    """The refs of `known` that `seen` lacks, in natural order."""
    return tuple(sorted(known.keys() - seen.keys(), key=natural_key))


def difference(known: Mapping[str, str], seen: Mapping[str, str]) -> dict[str, Any]:
    """Compare two listings; as JSON `{"refs": [{"ref", "commit", "previous"}, …], "gone": [ref, …], "seen": {…}}`."""
    return {
        "refs": changes(known, seen),
        "gone": list(gone(known, seen)),
        "seen": dict(seen),
    }


def matching(refs: Mapping[str, str], branches: str | None, tags: str | None) -> dict[str, str]:
    """The refs in a watch's scope.

    Args:
        refs: Full ref name to commit.
        branches: Name, or regular expression for whole names, of branches; None for no branch.
        tags: The same for tags. With both None, every branch and tag matches.

    Raises:
        ConfigurationError: RE2 rejects a pattern, or more than `MAX_WATCHED` refs match.
    """
    if branches is None and tags is None:
        branches = tags = ".*"
    wanted = [
        (prefix, _pattern(what, text))
        for prefix, what, text in ((BRANCHES, "branches", branches), (TAGS, "tags", tags))
        if text is not None
    ]
    found = {
        ref: commit
        for ref, commit in refs.items()
        for prefix, pattern in wanted
        if ref.startswith(prefix) and pattern.captures(ref.removeprefix(prefix)) is not None
    }
    if len(found) > MAX_WATCHED:
        raise ConfigurationError(
            f"git refs: expected at most {MAX_WATCHED} matches, found {len(found)}; "
            "narrow the patterns for branches and tags"
        )
    return found


def natural_key(name: str) -> tuple[list[str | int], str]:
    """A sort key that compares digits inside names as numbers; no two names share a key."""
    parts = _DIGITS.split(name)
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name


def _pattern(what: str, text: str) -> Pattern:
    try:
        return Pattern.guess(text)
    except ValueError as error:
        raise ConfigurationError(f"git refs, {what} {text[:200]!r}: {error}; correct the pattern") from None
