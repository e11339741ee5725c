"""Copying an image by digest: blobs first, then manifests from the leaves up, then what refers to them.

No tag is moved here: an image that is half there can't be pulled by anybody. `put_tag` is a step of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from delivery_chain.core.reference import short_digest
from delivery_chain.errors import ContentMismatch, ProtocolViolation, TagConflict
from delivery_chain.oci import referrers as referrers_of
from delivery_chain.oci.walk import Closure, read_closure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from delivery_chain.oci.client import RegistryClient
    from delivery_chain.oci.manifest import AnyManifest, Descriptor


@dataclass(frozen=True, slots=True)
class CopyProgress:
    """How far a copy is; sent after each piece of at most 1 MiB and after each blob."""

    blobs_done: int
    blobs_total: int
    bytes_done: int
    """Bytes of blobs that are at the target, those included that were there before."""
    bytes_total: int


@dataclass(frozen=True, slots=True)
class CopyResult:
    """What a copy did. Everything it counts was seen at the target afterwards."""

    digest: str
    manifests: int
    """Manifests and indexes at the target, referrers included."""
    blobs: int
    """Different blobs at the target: copied + mounted + skipped."""
    copied: int
    mounted: int
    skipped: int
    """Blobs that the target had."""
    bytes: int
    """Bytes sent."""
    referrers: int = 0
    """Referrers among the manifests."""


@dataclass(slots=True)
class _Tally:
    """The running copy's counts."""

    blobs_total: int
    bytes_total: int
    report: Callable[[CopyProgress], None] | None
    blobs_done: int = 0
    bytes_done: int = 0
    sent: int = 0
    ways: dict[str, int] = field(default_factory=lambda: {"copied": 0, "mounted": 0, "skipped": 0})

    def moved(self, size: int) -> None:
        self.bytes_done += size
        self.sent += size
        self._tell()

    def finished(self, way: str, size: int) -> None:
        self.ways[way] += 1
        self.blobs_done += 1
        if way != "copied":
            self.bytes_done += size
        self._tell()

    def _tell(self) -> None:
        if self.report is not None:
            self.report(CopyProgress(self.blobs_done, self.blobs_total, self.bytes_done, self.bytes_total))


@dataclass(frozen=True, slots=True)
class _Way:
    """From where to where."""

    source: RegistryClient
    source_name: str
    target: RegistryClient
    target_name: str

    @property
    def mountable(self) -> bool:
        # A mount is done with the target's login, which has to see the source too.
        one, other = self.source.registry, self.target.registry
        return (one.base_url, one.username) == (other.base_url, other.username)


def copy_image(
    source: RegistryClient,
    source_name: str,
    digest: str,
    target: RegistryClient,
    target_name: str,
    *,
    referrers: bool = True,
    on_progress: Callable[[CopyProgress], None] | None = None,
) -> CopyResult:
    """Copy a manifest or index with all it points at, and check at the target that it is all there.

    What the target has is not sent again, so a copy that was cut short goes on where it stopped.

    Args:
        source: Where the image is.
        source_name: Its repository.
        digest: Its manifest or index.
        target: Where it shall be.
        target_name: The repository there.
        referrers: Whether reports, SBOMs and signatures that name any of the image's manifests go along.
        on_progress: Called from the copying thread; what it raises ends the copy.

    Raises:
        NotFound: The source lacks the image or a part of it.
        ContentMismatch: Bytes are not what their digest says, or the target lacks a part in the end.
        ProtocolViolation: Deeper than 4 indexes, more than 1000 manifests, or no image.
        RegistryError: See `errors`; what was sent stays at the target, under no tag.
    """
    way = _Way(source, source_name, target, target_name)
    closure = read_closure(source, source_name, digest, referrers=referrers)
    tally = _Tally(len(closure.blobs), sum(blob.size for blob in closure.blobs), on_progress)
    for blob in closure.blobs:
        tally.finished(_copy_blob(way, blob, tally), blob.size)
    for manifest in closure.manifests:
        _copy_manifest(way, manifest)
    for subject, entry in closure.links:
        referrers_of.link(target, target_name, subject, entry)
    check_closure(target, target_name, closure)
    return CopyResult(
        digest=digest,
        manifests=len(closure.manifests),
        blobs=len(closure.blobs),
        bytes=tally.sent,
        referrers=len({entry.digest for _, entry in closure.links}),
        **tally.ways,
    )


def _copy_blob(way: _Way, blob: Descriptor, tally: _Tally) -> str:
    """Bring one blob to the target.

    Returns:
        `copied`, `mounted` or `skipped`.
    """
    if _held(way.target, way.target_name, blob):
        return "skipped"
    if way.mountable and way.target.mount_blob(way.target_name, blob.digest, way.source_name):
        return "mounted"
    with way.source.open_blob(way.source_name, blob.digest, verify=False) as chunks:
        way.target.upload_blob(way.target_name, blob.digest, blob.size, _counted(chunks, tally))
    return "copied"


def _held(client: RegistryClient, name: str, blob: Descriptor) -> bool:
    size = client.head_blob(name, blob.digest)
    if size is not None and size != blob.size:
        raise ProtocolViolation(
            f"blob {blob.digest} of {name} at {client.registry.host}: expected {blob.size} bytes "
            f"as the manifest says, found {size}. One of them is damaged: push the image again"
        )
    return size is not None


def _counted(chunks: Iterable[bytes], tally: _Tally) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk
        tally.moved(len(chunk))


def _copy_manifest(way: _Way, manifest: AnyManifest) -> None:
    if way.target.head_manifest(way.target_name, manifest.digest) is None:
        way.target.put_manifest(way.target_name, manifest.digest, manifest.raw, manifest.media_type)


def check_closure(client: RegistryClient, name: str, closure: Closure) -> None:
    """Ask a registry by digest for every part of an image.

    Raises:
        ContentMismatch: A part is missing, or of another size. Retryable: a copy sends it again.
    """
    where = f"{name} at {client.registry.host}"
    for manifest in closure.manifests:
        found = client.head_manifest(name, manifest.digest)
        if found is None or found.size != len(manifest.raw):
            raise ContentMismatch(
                f"manifest {manifest.digest} is not in {where} after the copy. A retry sends it again"
            )
    for blob in closure.blobs:
        if not _held(client, name, blob):
            raise ContentMismatch(
                f"blob {blob.digest} is not in {where} after the copy. A retry sends it again"
            )
    for subject in dict.fromkeys(subject for subject, _ in closure.links):
        listed = {entry.digest for entry in referrers_of.list_referrers(client, name, subject)}
        for _, entry in (link for link in closure.links if link[0] == subject):
            if entry.digest not in listed:
                raise ContentMismatch(
                    f"referrer {entry.digest} is not listed for {short_digest(subject)} in {where} after "
                    "the copy. A retry lists it again"
                )


def put_tag(client: RegistryClient, name: str, tag: str, digest: str, *, overwrite: bool = True) -> None:
    """Let a tag point at a manifest that is in the repository already, and check that it does.

    Args:
        client: The registry.
        name: Repository.
        tag: The tag. One that points there already is left alone.
        digest: The manifest or index.
        overwrite: Whether a tag that points at another digest may be moved.

    Raises:
        TagConflict: It points elsewhere and may not be moved, or somebody else moved it at the same moment.
        NotFound: The manifest is not in the repository.
    """
    where = f"{name}:{tag} at {client.registry.host}"
    current = client.head_manifest(name, tag)
    if current is not None and current.digest == digest:
        return
    if current is not None and not overwrite:
        raise TagConflict(
            f"TAG_CONFLICT: {where} is {current.digest}, expected no such tag or {digest}. The rule does "
            "not let it be overwritten: delete the tag, or set override"
        )
    manifest = client.get_manifest(name, digest)
    client.put_manifest(name, tag, manifest.raw, manifest.media_type)
    after = client.head_manifest(name, tag)
    if after is None or after.digest != digest:
        found = after.digest if after else "no such tag"
        raise TagConflict(
            f"TAG_CONFLICT: {where} was set to {digest}, found {found} right after. Who else moves it?"
        )
