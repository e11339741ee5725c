"""Sort the manifests below a digest into images and those proven not to be images.

Anything not proven otherwise counts as an image and has to be scanned; anything that fits neither group is rejected,
and the error names it. A platform name or media type proves little, since anyone with push access can set it and
runtimes differ in what they trust:

* docker treats a manifest with a config of `application/octet-stream`, `application/json` or `text/html` as an image;
* podman and CRI-O check neither a child's media type in an index nor the config's type in a Docker manifest;
* tools built on go-containerregistry (kaniko) check none of these.

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
"""Number of leading bytes that distinguish an archive from text: the size of a tar header."""
Found = tuple[tuple[Image, ...], tuple[Other, ...]]
"""Images, and the things proven not to be images, with their kinds."""


def inventory(client: RegistryClient, name: str, digest: str) -> Found:
    """Return every image below a digest, and everything proven not to be one. Each digest is in exactly one.

    Args:
        client: The registry.
        name: Repository.
        digest: A manifest or an index.

    Raises:
        NotFound: A manifest, or a blob needed as proof, does not exist.
        ProtocolViolation: Something is neither an image nor proven not to be one, or the tree is too large or too
            deep.
    """
    return take_inventory(name, lambda one: client.get_manifest(name, one), content_of(client, name), digest)


def content_of(client: RegistryClient, name: str) -> Content:
    """Return access to the blobs of a repository, for proofs of what a manifest is."""
    return Content(
        name, lambda one, most: client.get_blob(name, one, most), lambda blob: _begin(client, name, blob)
    )


def take_inventory(name: str, fetch: Callable[[str], AnyManifest], content: Content, digest: str) -> Found:
    """Like `inventory`, with any source of manifests and blobs."""
    tree = _Tree(name, fetch, content)
    root = tree.get(digest)
    if isinstance(root, Index):
        tree.descend(root, 0)
    else:
        tree.sort_manifest(root, None, None)
    if not tree.images and not tree.others:
        raise ProtocolViolation(f"{name}@{digest}: expected an image, found an empty index")
    others = {key: other for key, other in tree.others.items() if key not in tree.images}
    return tuple(tree.images.values()), tuple(others.values())


def images_in(
    name: str,
    fetch: Callable[[str], AnyManifest],
    content: Content,
    root: AnyManifest,
    known: Collection[str],
) -> str:
    """Return why a referrer may not be copied along with gated images; empty if all its images are in `known`.

    Content that can't be read or understood is treated like an image, because no gate has judged it either.
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
    return f"{unknown[0].digest} ({unknown[0].platform}) is an image that no gate has judged"


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
        """Return a manifest, fetched at most once."""
        if digest in self.read:
            return self.read[digest]
        found = self.fetch(digest)
        if found.digest != digest:
            raise ProtocolViolation(f"{self.name}@{digest}: expected a sha256 digest, found another kind")
        self.held += len(found.raw)
        if len(self.read) >= MAX_MANIFESTS or self.held > MAX_MANIFEST_BYTES:
            raise ProtocolViolation(
                f"{self.name}: expected at most {MAX_MANIFESTS} manifests, {MAX_MANIFEST_BYTES} bytes in total, in "
                "one image, found more"
            )
        self.read[digest] = found
        return found

    def descend(self, index: Index, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise ProtocolViolation(
                f"{self.name}@{index.digest}: expected at most {MAX_DEPTH} levels of nested indexes"
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
        """Count a manifest as an image unless something proves otherwise."""
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
        # A runtime may select any manifest of an index by platform, so looking like a signature is no proof there.
        return attestation(self.content, manifest, entry, index) or artifact(self.content, manifest)


def _begin(client: RegistryClient, name: str, blob: Descriptor) -> bytes:
    view = memoryview(bytearray(min(FIRST_BYTES, blob.size)))
    with client.read_blob(name, blob.digest, blob.size) as response:
        count = 0
        while count < len(view) and (size := response.readinto(view[count:])):
            count += size
    return bytes(view[:count])


def _check_agrees(name: str, index: Index, child: Descriptor, below: AnyManifest) -> None:
    """Reject a child whose type or size contradicts its index: runtimes differ in which of the two they trust."""
    if child.media_type != below.media_type:
        raise ProtocolViolation(
            f"{name}@{index.digest}: expected media type {child.media_type} for {child.digest}, found "
            f"{below.media_type}. Build the index again"
        )
    if child.size != len(below.raw):
        raise ProtocolViolation(
            f"{name}@{index.digest}: expected {child.size} bytes for {child.digest}, found {len(below.raw)}"
        )
