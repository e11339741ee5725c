"""Reading an image whole: every manifest and blob that belongs to a digest, within bounds."""

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
"""Indexes inside indexes: real images have one, with referrers of referrers three."""
MAX_MANIFESTS = 1000
"""Manifests and indexes of one copy."""
MAX_MANIFEST_BYTES = 64 * 1024 * 1024
"""Bytes of all manifests of one copy together: they are held in memory."""


@dataclass(frozen=True, slots=True)
class Closure:
    """All that belongs to one digest."""

    manifests: tuple[AnyManifest, ...]
    """Children before the index that names them, referrers after what they are about."""
    blobs: tuple[Descriptor, ...]
    """Each once, in the order of the manifests."""
    links: tuple[tuple[str, Descriptor], ...] = ()
    """Subject's digest and referrer, for every referrer."""


Each = Callable[[Callable[[str], Any], Iterable[str]], Iterable[Any]]
"""`map`, or one that works on several at once; results in the order asked for."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Where an image is read from."""

    name: str
    """For messages: `shop/api`."""
    fetch: Callable[[str], AnyManifest]
    """The manifest of a digest, its bytes checked against it. NotFound where it is not there."""
    referrers: Callable[[str], tuple[Descriptor, ...]] | None
    """What is listed as referring to a digest; None where referrers stay behind."""
    has_blob: Callable[[str], bool]
    """Asked about layers that a registry may lack by design."""
    each: Each = map
    unfit: Callable[[AnyManifest, frozenset[str]], str] | None = None
    """Why a referrer, given the digests of the image itself, stays behind; empty if it goes along. None: all do."""
    left_behind: Callable[[str], None] = lambda _: None
    """Is told of each that stays."""


def parts(manifest: AnyManifest) -> tuple[Descriptor, ...]:
    """The blobs that a manifest names itself; an index may have some among its children."""
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
                f"{self.reader.name}: expected at most {MAX_MANIFESTS} manifests and {MAX_MANIFEST_BYTES} bytes "
                "of them in one image with its referrers, found more. Copy a part of it"
            )
        self.found[manifest.digest] = manifest

    def descend(self, level: list[AnyManifest]) -> None:
        """Add manifests that were fetched, and all below them, one level at a time."""
        depth = 0
        while level:
            if depth > MAX_DEPTH:
                raise ProtocolViolation(
                    f"{self.reader.name}@{level[0].digest}: expected at most {MAX_DEPTH} indexes inside each other"
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
        """Add what refers to the manifests, and what refers to that."""
        waiting = list(self.found)
        self.own = frozenset(self.found)
        for _ in range(MAX_DEPTH + 1):
            # The first alone: it may teach `listed` how this registry is asked.
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
        # What is read by now goes along; what refers to the last of it is beyond the limit.
        self.leave(f"what refers to {waiting[0]}", f"expected at most {MAX_DEPTH} referrers in a row")

    def leave(self, what: str, why: str) -> None:
        """Leave referrers behind if they may not fail the image, else fail it.

        Raises:
            ProtocolViolation: All referrers have to go along.
        """
        if self.reader.unfit is None:
            raise ProtocolViolation(f"{self.reader.name}: {what}: {why}")
        self.reader.left_behind(f"{what} of {self.reader.name} stays behind: {why}")

    def listed_by(
        self, listed: Callable[[str], tuple[Descriptor, ...]], subject: str
    ) -> tuple[Descriptor, ...]:
        try:
            return listed(subject)
        except ProtocolViolation as error:
            if self.reader.unfit is None:
                raise
            self.leave(f"what refers to {subject}", str(error))
            return ()

    def stays(self, manifest: AnyManifest) -> bool:
        """Whether a referrer stays behind, which is told once. Anybody who may push writes one, at any time."""
        if self.reader.unfit is None or manifest.digest in self.own:
            return False
        if manifest.digest not in self.judged:
            why = self.reader.unfit(manifest, self.own)
            self.judged[manifest.digest] = bool(why)
            if why:
                self.leave(f"referrer {manifest.digest}", why)
        return self.judged[manifest.digest]

    def take_referrers(self, entries: list[tuple[str, Descriptor]]) -> None:
        wanted = dict.fromkeys(entry.digest for _, entry in entries)
        got = dict(zip(wanted, self.reader.each(self.maybe, wanted), strict=True))
        for subject, entry in entries:
            manifest = got[entry.digest]
            # Anybody who may push can write such a list: a manifest that does not agree is no referrer.
            if manifest is None or manifest.subject is None or manifest.subject.digest != subject:
                continue
            if self.stays(manifest):
                continue
            if manifest.digest in self.found or self.brings(manifest):
                self.links.append((subject, entry))

    def brings(self, manifest: AnyManifest) -> bool:
        """Add a referrer with all below it, or nothing of it."""
        before = dict(self.found), self.held
        try:
            self.descend([manifest])
        except (NotFound, ProtocolViolation) as error:
            if self.reader.unfit is None:
                raise
            self.found, self.held = before
            self.leave(f"referrer {manifest.digest}", str(error))
            return False
        return True

    def maybe(self, digest: str) -> AnyManifest | None:
        try:
            return self.found.get(digest) or self.reader.fetch(digest)
        except NotFound:
            # A list outlives manifests that were deleted since.
            return None
        except ProtocolViolation as error:
            if self.reader.unfit is None:
                raise
            self.leave(f"referrer {digest}", str(error))
            return None

    def ordered(self, root: str) -> tuple[AnyManifest, ...]:
        """Children before the index that names them, referrers after what they are about."""
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
                f"{self.reader.name}@{parent}: says {child.size} bytes of {child.digest}, found {size}"
            )

    def blobs(self, manifests: tuple[AnyManifest, ...]) -> tuple[Descriptor, ...]:
        found: dict[str, Descriptor] = {}
        for blob in (blob for manifest in manifests for blob in parts(manifest)):
            known = found.setdefault(blob.digest, blob)
            if known.size != blob.size:
                raise ProtocolViolation(
                    f"blob {blob.digest} of {self.reader.name}: said to have {known.size} and {blob.size} bytes"
                )
        # Non-distributable layers stay where their URLs say, unless the registry has them after all.
        return tuple(blob for blob in found.values() if not blob.foreign or self.reader.has_blob(blob.digest))


def read_closure(reader: Reader, digest: str) -> Closure:
    """Read all manifests of an image, and learn its blobs from them.

    Args:
        reader: Where from, and whether what refers to the manifests belongs to it.
        digest: Manifest or index.

    Raises:
        NotFound: The manifest or one of its children is missing.
        ProtocolViolation: More than 1000 manifests, 64 MiB of them, or 4 levels; or sizes that disagree.
    """
    walk = _Walk(reader)
    walk.descend([reader.fetch(digest)])
    if reader.referrers is not None:
        walk.add_referrers(reader.referrers)
    manifests = walk.ordered(digest)
    return Closure(manifests, walk.blobs(manifests), tuple(walk.links))
