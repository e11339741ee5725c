"""Find the tags that serve a manifest, directly or through an index that has it among its children.

An untagged index can't be found: registries list tags, not manifests. Referrers (reports, signatures) do not serve
their subject, so they don't count as holders.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from delivery_chain.core.names.reference import check_digest
from delivery_chain.errors import InvalidReference, NotFound, ProtocolViolation
from delivery_chain.oci.closure import MAX_DEPTH
from delivery_chain.oci.manifest import INDEX_TYPES, MANIFEST_TYPES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from delivery_chain.oci.client import RegistryClient

MOST_TAGS = 5000
"""Maximum number of tags to resolve in a repository: each costs a request."""
MOST_INDEXES = 2000
"""Maximum number of distinct indexes to read."""
LOOK_SECONDS = 300.0
"""Time limit of the search in seconds: `MOST_TAGS` requests of 60 ms each."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A tag that serves a manifest."""

    tag: str
    digest: str
    """Target of the tag: the manifest itself, or an index that has it at any depth."""


@dataclass(frozen=True, slots=True)
class Held:
    """Result of searching a repository."""

    by: dict[str, tuple[Holder, ...]]
    """Maps a digest to its holders, sorted by tag name."""
    limit: str = ""
    """Why the search is incomplete; empty if it is complete."""

    def others(self, digest: str, own: Collection[str] = ()) -> tuple[Holder, ...]:
        """Holders of a digest, except for some tags."""
        return tuple(one for one in self.by.get(digest, ()) if one.tag not in own)


def holders(
    client: RegistryClient, name: str, digests: Collection[str], *, seconds: float = LOOK_SECONDS
) -> Held:
    """Search a repository's tags, and the indexes that they point at, for some manifests.

    Args:
        client: The registry.
        name: Repository.
        digests: Manifests to find.
        seconds: Time limit.

    Raises:
        RegistryError: The tags can't be listed or resolved. Retryable if the error's class says so.
    """
    search = _Search(client, name, frozenset(digests), time.monotonic() + seconds)
    try:
        # Registries list tags in any order; sort them, so that results do not vary.
        tags = tuple(sorted(client.list_tags(name)))
    except NotFound:
        tags = ()
    found: dict[str, tuple[Holder, ...]] = dict.fromkeys(digests, ())
    limit = "" if len(tags) <= MOST_TAGS else f"it has more than {MOST_TAGS} tags"
    for tag in tags[:MOST_TAGS]:
        limit = limit or search.limit()
        if limit:
            break
        top = search.tagged(tag)
        for digest in search.served(top) if top else ():
            found[digest] += (Holder(tag, top),)
    return Held(found, limit or search.limit())


@dataclass(slots=True)
class _Search:
    client: RegistryClient
    name: str
    wanted: frozenset[str]
    deadline: float
    plain: set[str] = field(default_factory=set)
    """Digests known not to be an index."""
    below: dict[str, frozenset[str]] = field(default_factory=dict)
    """Maps an index digest to the wanted digests that it serves."""
    unread: str = ""
    """Why something could not be read."""

    def limit(self) -> str:
        if self.unread:
            return self.unread
        if len(self.below) > MOST_INDEXES:
            return f"it has more than {MOST_INDEXES} indexes"
        return "it takes too long to search" if time.monotonic() > self.deadline else ""

    def tagged(self, tag: str) -> str:
        """Digest of a tag; empty if it was deleted meanwhile."""
        try:
            found = self.client.head_type(self.name, tag)
        except ProtocolViolation:
            self.unread = f"its tag {tag} can't be read"
            return ""
        if found is None:
            return ""
        digest, media_type = found
        if media_type in MANIFEST_TYPES:
            self.plain.add(digest)
        return digest

    def served(self, digest: str, depth: int = 0) -> frozenset[str]:
        """Wanted digests among a manifest and its descendants."""
        own = self.wanted & {digest}
        if digest in self.plain:
            return own
        if depth > MAX_DEPTH:
            self.unread = f"it has more than {MAX_DEPTH} levels of nested indexes"
        if self.limit():
            return own
        if digest not in self.below:
            self.below[digest] = frozenset()
            found = [self._below(child, kind, depth) for child, kind in self._children(digest)]
            self.below[digest] = frozenset().union(*found)
        return own | self.below[digest]

    def _below(self, digest: str, media_type: str, depth: int) -> frozenset[str]:
        # A declared image has no children. For anything else, read the manifest.
        if media_type in MANIFEST_TYPES or (digest in self.wanted and media_type not in INDEX_TYPES):
            return self.wanted & {digest}
        return self.served(digest, depth + 1)

    def _children(self, digest: str) -> Iterator[tuple[str, str]]:
        try:
            raw, _ = self.client.read_manifest(self.name, digest)
        except NotFound:
            return
        except ProtocolViolation:
            self.unread = f"its manifest {digest} can't be read"
            return
        try:
            yield from _entries(json.loads(raw))
        except (ValueError, RecursionError, TypeError):
            # Unknown format: assume that the document serves every digest that occurs in it.
            yield from ((one, "") for one in self.wanted if one.encode() in raw)


def _entries(data: Any) -> Iterator[tuple[str, str]]:
    entries = data.get("manifests", ()) if isinstance(data, dict) else ()
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and isinstance(digest := entry.get("digest"), str) and _is_digest(digest):
            kind = entry.get("mediaType")
            yield digest, kind if isinstance(kind, str) else ""


def _is_digest(text: str) -> bool:
    try:
        check_digest(text)
    except InvalidReference:
        return False
    return True
