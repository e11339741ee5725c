"""Collect the closure of a digest: every manifest and blob that belongs to an image, within bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from delivery_chain.errors import NotFound, ProtocolViolation
from delivery_chain.oci.manifest import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    AnyManifest,
    Descriptor,
)

MAX_DEPTH = 4
"""Maximum levels of nested indexes: real images have one level, or three with referrers of referrers."""
MAX_MANIFESTS = 1000
"""Maximum number of manifests and indexes in one copy."""
MAX_MANIFEST_BYTES = 64 * 1024 * 1024
"""Maximum total size of the manifests of one copy, in bytes: they are held in memory."""


@dataclass(frozen=True, slots=True)
class Closure:
    """Everything that belongs to one digest."""

    manifests: tuple[AnyManifest, ...]
    """Children before their index, referrers after their subjects."""
    blobs: tuple[Descriptor, ...]
    """Without duplicates, in the order of the manifests."""
    links: tuple[tuple[str, Descriptor], ...] = ()
    """Subject's digest and referrer, for every referrer."""


Each = Callable[[Callable[[str], Any], Iterable[str]], Iterable[Any]]
"""`map`, or a concurrent version of it that returns results in the same order."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Source of an image's manifests and blobs."""

    name: str
    """Repository, for messages: `shop/api`."""
    fetch: Callable[[str], AnyManifest]
    """Returns the manifest of a digest, verified against that digest. Raises NotFound if it does not exist."""
    referrers: Callable[[str], tuple[Descriptor, ...]] | None
    """Returns the referrers listed for a digest. None: copy no referrers."""
    has_blob: Callable[[str], bool]
    """Returns whether the source has a blob. Called only for layers that a registry may lack by design."""
    each: Each = map
    unfit: Callable[[AnyManifest, frozenset[str]], str] | None = None
    """Returns the reason to leave a referrer behind, or an empty string to copy it, given the referrer and the digests
    of the image itself. None: copy all referrers."""
    left_behind: Callable[[str], None] = lambda _: None
    """Called with a log line for each referrer left behind."""


def parts(manifest: AnyManifest) -> tuple[Descriptor, ...]:
    """Return the blobs that a manifest references directly; the children of an index may include blobs, too."""
    odd = (child for child in manifest.children if not _is_manifest(child))
    return (*odd, *manifest.blobs)


def _is_manifest(child: Descriptor) -> bool:
    return child.media_type in MANIFEST_TYPES | INDEX_TYPES


@dataclass(slots=True)
class _Walk:
    reader: Reader
    found: dict[str, AnyManifest] = field(default_factory=dict)
    links: list[tuple[str, Descriptor]] = field(default_factory=list)
    held: int = 0
    own: frozenset[str] = frozenset()
    """The image itself, without referrers."""
    judged: dict[str, bool] = field(default_factory=dict)

    def add(self, manifest: AnyManifest) -> None:
        self.held += len(manifest.raw)
        if len(self.found) >= MAX_MANIFESTS or self.held > MAX_MANIFEST_BYTES:
            raise ProtocolViolation(
                f"{self.reader.name}: expected at most {MAX_MANIFESTS} manifests, {MAX_MANIFEST_BYTES} bytes in "
                "total, in one image with its referrers, found more. Copy fewer platforms, or without referrers"
            )
        self.found[manifest.digest] = manifest

    def descend(self, level: list[AnyManifest]) -> None:
        """Add fetched manifests and all their descendants, one level at a time."""
        depth = 0
        while level:
            if depth > MAX_DEPTH:
                raise ProtocolViolation(
                    f"{self.reader.name}@{level[0].digest}: expected at most {MAX_DEPTH} levels of nested indexes"
                )
            for manifest in level:
                self.add(manifest)
            children = (child for manifest in level for child in manifest.children if _is_manifest(child))
            unknown = dict.fromkeys(child.digest for child in children if child.digest not in self.found)
            if len(self.found) + len(unknown) > MAX_MANIFESTS:
                raise ProtocolViolation(
                    f"{self.reader.name}: expected at most {MAX_MANIFESTS} manifests in one image, found more"
                )
            level = list(self.reader.each(self.reader.fetch, unknown))
            depth += 1

    def add_referrers(self, listed: Callable[[str], tuple[Descriptor, ...]]) -> None:
        """Add the referrers of the manifests, and their referrers in turn."""
        waiting = list(self.found)
        self.own = frozenset(self.found)
        for _ in range(MAX_DEPTH + 1):
            # Run the first call on its own: from its response, `listed` may learn whether the registry has the API.
            lists = [
                self.listed_by(listed, waiting[0]),
                *self.reader.each(partial(self.listed_by, listed), waiting[1:]),
            ]
            entries = [
                (subject, entry) for subject, some in zip(waiting, lists, strict=True) for entry in some
            ]
            before = set(self.found)
            self.take_referrers(entries)
            waiting = [digest for digest in self.found if digest not in before]
            if not waiting:
                return
        # Keep the referrers read so far; their own referrers would exceed the limit.
        self.leave_behind(f"referrers of {waiting[0]}", f"expected at most {MAX_DEPTH} levels of referrers")

    def leave_behind(self, what: str, why: str) -> None:
        """Leave referrers behind if that is allowed, otherwise fail the copy.

        Raises:
            ProtocolViolation: The caller requires all referrers to be copied.
        """
        if self.reader.unfit is None:
            raise ProtocolViolation(f"{self.reader.name}: {what}: {why}")
        self.reader.left_behind(f"{what} of {self.reader.name} left behind: {why}")

    def listed_by(
        self, listed: Callable[[str], tuple[Descriptor, ...]], subject: str
    ) -> tuple[Descriptor, ...]:
        try:
            return listed(subject)
        except ProtocolViolation as error:
            if self.reader.unfit is None:
                raise
            self.leave_behind(f"referrers of {subject}", str(error))
            return ()

    def is_left_behind(self, manifest: AnyManifest) -> bool:
        """Whether to leave a referrer behind; if so, report it.

        Anyone with push access can add a referrer at any time, even after the image was gated.
        """
        if self.reader.unfit is None or manifest.digest in self.own:
            return False
        if manifest.digest not in self.judged:
            why = self.reader.unfit(manifest, self.own)
            self.judged[manifest.digest] = bool(why)
            if why:
                self.leave_behind(f"referrer {manifest.digest}", why)
        return self.judged[manifest.digest]

    def take_referrers(self, entries: list[tuple[str, Descriptor]]) -> None:
        wanted = dict.fromkeys(entry.digest for _, entry in entries)
        got = dict(zip(wanted, self.reader.each(self.fetch_if_present, wanted), strict=True))
        for subject, entry in entries:
            manifest = got[entry.digest]
            # Anyone with push access can write this list: ignore manifests that do not name this subject.
            if manifest is None or manifest.subject is None or manifest.subject.digest != subject:
                continue
            if self.is_left_behind(manifest):
                continue
            if manifest.digest in self.found or self.add_referrer(manifest):
                self.links.append((subject, entry))

    def add_referrer(self, manifest: AnyManifest) -> bool:
        """Add a referrer with all its descendants, or none of it."""
        before = dict(self.found), self.held
        try:
            self.descend([manifest])
        except (NotFound, ProtocolViolation) as error:
            if self.reader.unfit is None:
                raise
            self.found, self.held = before
            self.leave_behind(f"referrer {manifest.digest}", str(error))
            return False
        return True

    def fetch_if_present(self, digest: str) -> AnyManifest | None:
        try:
            return self.found.get(digest) or self.reader.fetch(digest)
        except NotFound:
            # The list may name manifests that have been deleted since.
            return None
        except ProtocolViolation as error:
            if self.reader.unfit is None:
                raise
            self.leave_behind(f"referrer {digest}", str(error))
            return None

    def ordered(self, root: str) -> tuple[AnyManifest, ...]:
        """Sort children before their index, and referrers after their subjects."""
        done: dict[str, AnyManifest] = {}

        def emit(digest: str) -> None:
            if digest in done:
                return
            for child in self.found[digest].children:
                if _is_manifest(child):
                    self.check_size(digest, child)
                    emit(child.digest)
            done[digest] = self.found[digest]

        emit(root)
        for _, entry in self.links:
            emit(entry.digest)
        return tuple(done.values())

    def check_size(self, parent: str, child: Descriptor) -> None:
        size = len(self.found[child.digest].raw)
        if size != child.size:
            raise ProtocolViolation(
                f"{self.reader.name}@{parent}: expected {child.size} bytes for {child.digest}, found {size}"
            )

    def blobs(self, manifests: tuple[AnyManifest, ...]) -> tuple[Descriptor, ...]:
        found: dict[str, Descriptor] = {}
        for blob in (blob for manifest in manifests for blob in parts(manifest)):
            known = found.setdefault(blob.digest, blob)
            if known.size != blob.size:
                raise ProtocolViolation(
                    f"blob {blob.digest} of {self.reader.name}: declared with {known.size} and with {blob.size} bytes"
                )
        # Non-distributable layers stay at their URLs, unless the registry has them after all.
        return tuple(blob for blob in found.values() if not blob.foreign or self.reader.has_blob(blob.digest))


def read_closure(reader: Reader, digest: str) -> Closure:
    """Read all manifests of an image and collect their blobs.

    Args:
        reader: Source, and whether referrers belong to the image.
        digest: Manifest or index.

    Raises:
        NotFound: The manifest or one of its children is missing.
        ProtocolViolation: The image exceeds 1000 manifests, 64 MiB of manifests or 4 levels, or a declared size is
            wrong.
    """
    walk = _Walk(reader)
    walk.descend([reader.fetch(digest)])
    if reader.referrers is not None:
        walk.add_referrers(reader.referrers)
    manifests = walk.ordered(digest)
    return Closure(manifests, walk.blobs(manifests), tuple(walk.links))
