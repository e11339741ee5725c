"""Who else serves a manifest: the tags that point at it, and the tagged indexes that have it among their children.

An index without a tag can't be found: registries list tags, not manifests. What refers to a manifest by its `subject`
(reports, signatures) serves it to nobody, and is no holder.
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
"""Tags of a repository that are asked: each costs a request."""
MOST_INDEXES = 2000
"""Different indexes that are read."""
LOOK_SECONDS = 300.0
"""How long the look may take: the most tags, at 60 ms each."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A tag that serves a manifest."""

    tag: str
    digest: str
    """What the tag points at: the manifest itself, or the index that has it, at whatever depth."""


@dataclass(frozen=True, slots=True)
class Held:
    """What one look at a repository found."""

    by: dict[str, tuple[Holder, ...]]
    """Digest to who serves it, in the order of the tags' names."""
    limit: str = ""
    """Why there may be more; empty where everything was looked at."""

    def others(self, digest: str, own: Collection[str] = ()) -> tuple[Holder, ...]:
        """Who serves a digest apart from some tags."""
        return tuple(one for one in self.by.get(digest, ()) if one.tag not in own)


def holders(
    client: RegistryClient, name: str, digests: Collection[str], *, seconds: float = LOOK_SECONDS
) -> Held:
    """Look through a repository's tags, and the indexes under them, for some manifests.

    Args:
        client: The registry.
        name: Repository.
        digests: What is looked for.
        seconds: How long it may take.

    Raises:
        RegistryError: The registry does not say. Retryable where its class says so.
    """
    look = _Look(client, name, frozenset(digests), time.monotonic() + seconds)
    try:
        # Registries list them in any order.
        tags = tuple(sorted(client.list_tags(name)))
    except NotFound:
        tags = ()
    found: dict[str, tuple[Holder, ...]] = dict.fromkeys(digests, ())
    limit = "" if len(tags) <= MOST_TAGS else f"it has more than {MOST_TAGS} tags"
    for tag in tags[:MOST_TAGS]:
        limit = limit or look.limit()
        if limit:
            break
        top = look.tagged(tag)
        for digest in look.served(top) if top else ():
            found[digest] += (Holder(tag, top),)
    return Held(found, limit or look.limit())


@dataclass(slots=True)
class _Look:
    client: RegistryClient
    name: str
    wanted: frozenset[str]
    deadline: float
    plain: set[str] = field(default_factory=set)
    """Digests that are no index."""
    below: dict[str, frozenset[str]] = field(default_factory=dict)
    """Index to the wanted digests that it serves."""
    unread: str = ""
    """What could not be looked into."""

    def limit(self) -> str:
        if self.unread:
            return self.unread
        if len(self.below) > MOST_INDEXES:
            return f"it has more than {MOST_INDEXES} indexes"
        return "it takes too long to look through" if time.monotonic() > self.deadline else ""

    def tagged(self, tag: str) -> str:
        """What a tag points at; empty where it went away meanwhile."""
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
        """The wanted ones among a manifest and all below it."""
        own = self.wanted & {digest}
        if digest in self.plain:
            return own
        if depth > MAX_DEPTH:
            self.unread = f"it has more than {MAX_DEPTH} indexes inside each other"
        if self.limit():
            return own
        if digest not in self.below:
            self.below[digest] = frozenset()
            found = [self._below(child, kind, depth) for child, kind in self._children(digest)]
            self.below[digest] = frozenset().union(*found)
        return own | self.below[digest]

    def _below(self, digest: str, media_type: str, depth: int) -> frozenset[str]:
        # What says of itself that it is an image has nothing below. Of anything else the manifest is asked.
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
            # Nobody knows what this is. It may serve whatever it names.
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
