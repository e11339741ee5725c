"""What is below a digest: which manifests are images, and which are proven to be none.

Whatever is not proven is an image, and has to be scanned; what can be neither is refused by name. A platform's name
and a media type prove little, for whoever may push writes them, and runtimes differ in what they believe:

* docker takes a manifest whose config says `application/octet-stream`, `application/json` or `text/html` for an image;
* podman and CRI-O look neither at a child's media type in an index nor at the config's type in a Docker manifest;
* tools that build on go-containerregistry (kaniko) look at none of them.

Source: moby `distribution/registry.go` (ImageTypes); containers/image `docker_schema2.go`, `oci.go`; containerd
`images/image.go`; BuildKit `docs/attestations/attestation-storage.md`; cosign `specs/SIGNATURE_SPEC.md`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from delivery_chain.core.results import Image, Other
from delivery_chain.errors import NotFound, ProtocolViolation
from delivery_chain.oci.closure import MAX_DEPTH, MAX_MANIFEST_BYTES, MAX_MANIFESTS
from delivery_chain.oci.manifest import INDEX_TYPES, MANIFEST_TYPES, AnyManifest, Descriptor, Index, Manifest
from delivery_chain.oci.non_images import (
    Content,
    artifact,
    attestation,
    blob_child,
    image_platform,
    statements,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from delivery_chain.oci.client import RegistryClient

FIRST_BYTES = 512
"""Bytes of a blob that tell an archive from a text: the header of a tar."""
Found = tuple[tuple[Image, ...], tuple[Other, ...]]
"""Images, and what is proven to be none."""


def inventory(client: RegistryClient, name: str, digest: str) -> Found:
    """Every image below a digest, and all else there is, proven to be no image. Each digest is in one of them.

    Args:
        client: The registry.
        name: Repository.
        digest: A manifest or an index.

    Raises:
        NotFound: A manifest, or a blob that a proof needs, is not there.
        ProtocolViolation: Something is neither an image nor proven to be none, or the tree is too large or too deep.
    """
    return take_stock(name, lambda one: client.get_manifest(name, one), content_of(client, name), digest)


def content_of(client: RegistryClient, name: str) -> Content:
    """The blobs of a repository, for proofs."""
    return Content(
        name, lambda one, most: client.get_blob(name, one, most), lambda blob: _begin(client, name, blob)
    )


def take_stock(name: str, fetch: Callable[[str], AnyManifest], content: Content, digest: str) -> Found:
    """As `inventory`, from wherever manifests and blobs come."""
    tree = _Tree(name, fetch, content)
    root = tree.get(digest)
    if isinstance(root, Index):
        tree.descend(root, 0)
    else:
        tree.sort_manifest(root, None, None)
    if not tree.images and not tree.others:
        raise ProtocolViolation(f"{name}@{digest}: expected an image, found an index with nothing in it")
    others = {key: other for key, other in tree.others.items() if key not in tree.images}
    return tuple(tree.images.values()), tuple(others.values())


def images_in(
    name: str,
    fetch: Callable[[str], AnyManifest],
    content: Content,
    root: AnyManifest,
    known: Collection[str],
) -> str:
    """Why a referrer may not go where only judged images go; empty if it holds no image that is not among `known`.

    What can't be read or understood is no better than an image: it is as little judged.
    """
    tree = _Tree(name, fetch, content)
    tree.read[root.digest] = root
    try:
        if isinstance(root, Index):
            tree.descend(root, 0)
        else:
            tree.sort_manifest(root, None, None)
    except (NotFound, ProtocolViolation) as error:
        return str(error)
    unknown = [image for image in tree.images.values() if image.digest not in known]
    if not unknown:
        return ""
    return f"{unknown[0].digest} ({unknown[0].platform}) is an image that nobody judged"


@dataclass(slots=True)
class _Tree:
    name: str
    fetch: Callable[[str], AnyManifest]
    content: Content
    images: dict[str, Image] = field(default_factory=dict)
    others: dict[str, Other] = field(default_factory=dict)
    read: dict[str, AnyManifest] = field(default_factory=dict)
    entered: set[str] = field(default_factory=set)
    held: int = 0

    def get(self, digest: str) -> AnyManifest:
        """A manifest, read once."""
        if digest in self.read:
            return self.read[digest]
        found = self.fetch(digest)
        if found.digest != digest:
            raise ProtocolViolation(f"{self.name}@{digest}: expected a sha256 digest, found another kind")
        self.held += len(found.raw)
        if len(self.read) >= MAX_MANIFESTS or self.held > MAX_MANIFEST_BYTES:
            raise ProtocolViolation(
                f"{self.name}: expected at most {MAX_MANIFESTS} manifests and {MAX_MANIFEST_BYTES} bytes of them in "
                "one image, found more"
            )
        self.read[digest] = found
        return found

    def descend(self, index: Index, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise ProtocolViolation(
                f"{self.name}@{index.digest}: expected at most {MAX_DEPTH} indexes inside each other"
            )
        if index.digest in self.entered:
            return
        self.entered.add(index.digest)
        for child in index.children:
            if child.media_type not in MANIFEST_TYPES | INDEX_TYPES:
                what = blob_child(self.content, index, child)
                self.others.setdefault(child.digest, Other(digest=child.digest, what=what))
                continue
            below = self.get(child.digest)
            _check_agrees(self.name, index, child, below)
            if isinstance(below, Index):
                self.others.setdefault(below.digest, Other(digest=below.digest, what="index"))
                self.descend(below, depth + 1)
            else:
                self.sort_manifest(below, child, index)

    def sort_manifest(self, manifest: Manifest, entry: Descriptor | None, index: Index | None) -> None:
        """Put a manifest among the images, unless something proves that it is none."""
        if manifest.digest in self.images:
            return
        what = self.proven(manifest, entry, index)
        if what:
            self.others.setdefault(manifest.digest, Other(digest=manifest.digest, what=what))
            return
        platform = image_platform(self.content, manifest, entry.platform if entry else None)
        self.images[manifest.digest] = Image(digest=manifest.digest, platform=platform)

    def proven(self, manifest: Manifest, entry: Descriptor | None, index: Index | None) -> str:
        if entry is None or index is None:
            return artifact(self.content, manifest) or statements(self.content, manifest)
        # Inside an index a runtime may be led to a manifest by its platform: a signature on its own is not proof there.
        return attestation(self.content, manifest, entry, index) or artifact(self.content, manifest)


def _begin(client: RegistryClient, name: str, blob: Descriptor) -> bytes:
    view = memoryview(bytearray(min(FIRST_BYTES, blob.size)))
    with client.read_blob(name, blob.digest, blob.size) as response:
        count = 0
        while count < len(view) and (size := response.readinto(view[count:])):
            count += size
    return bytes(view[:count])


def _check_agrees(name: str, index: Index, child: Descriptor, below: AnyManifest) -> None:
    """Refuse a child that is not what its index says: one runtime would believe the one, another the other."""
    if child.media_type != below.media_type:
        raise ProtocolViolation(
            f"{name}@{index.digest}: says that {child.digest} is of media type {child.media_type}, found "
            f"{below.media_type}. Make the index again"
        )
    if child.size != len(below.raw):
        raise ProtocolViolation(
            f"{name}@{index.digest}: says {child.size} bytes of {child.digest}, found {len(below.raw)}"
        )
