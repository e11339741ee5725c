"""Reading an image whole: every manifest and blob that belongs to a digest, within bounds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from delivery_chain.core.platform import platform_name
from delivery_chain.errors import NotFound, ProtocolViolation
from delivery_chain.oci import fields
from delivery_chain.oci.manifest import (
    IMAGE_CONFIG_TYPES,
    INDEX_TYPES,
    MANIFEST_TYPES,
    AnyManifest,
    Descriptor,
    Manifest,
)
from delivery_chain.oci.referrers import list_referrers

if TYPE_CHECKING:
    from delivery_chain.oci.client import RegistryClient

MAX_DEPTH = 4
"""Indexes inside indexes: real images have one, with referrers of referrers three."""
MAX_MANIFESTS = 1000
"""Manifests and indexes of one copy."""
MAX_MANIFEST_BYTES = 64 * 1024 * 1024
"""Bytes of all manifests of one copy together: they are held in memory."""
MAX_CONFIG = 8 * 1024 * 1024
"""Bytes of an image's config: history and labels of the longest Dockerfiles stay below 1 MiB."""
UNKNOWN = "unknown/unknown"
"""Platform of attestations that BuildKit puts beside images."""


@dataclass(frozen=True, slots=True)
class Closure:
    """All that belongs to one digest."""

    manifests: tuple[AnyManifest, ...]
    """Children before the index that names them, referrers after what they are about."""
    blobs: tuple[Descriptor, ...]
    """Each once, in the order of the manifests."""
    links: tuple[tuple[str, Descriptor], ...] = ()
    """Subject's digest and referrer, for every referrer."""


@dataclass(slots=True)
class _Walk:
    client: RegistryClient
    name: str
    manifests: dict[str, AnyManifest] = field(default_factory=dict)
    blobs: dict[str, Descriptor] = field(default_factory=dict)
    links: list[tuple[str, Descriptor]] = field(default_factory=list)
    held: int = 0

    def fetch(self, digest: str) -> AnyManifest:
        manifest = self.client.get_manifest(self.name, digest)
        self.held += len(manifest.raw)
        if len(self.manifests) >= MAX_MANIFESTS or self.held > MAX_MANIFEST_BYTES:
            raise ProtocolViolation(
                f"{self.name}: expected at most {MAX_MANIFESTS} manifests and {MAX_MANIFEST_BYTES} bytes of "
                "them in one image with its referrers, found more. Copy a part of it"
            )
        return manifest

    def add(self, digest: str, depth: int) -> AnyManifest:
        """Add a manifest with all it points at, children first."""
        if digest in self.manifests:
            return self.manifests[digest]
        if depth > MAX_DEPTH:
            raise ProtocolViolation(
                f"{self.name}@{digest}: expected at most {MAX_DEPTH} indexes inside each other"
            )
        return self.add_fetched(self.fetch(digest), depth)

    def add_fetched(self, manifest: AnyManifest, depth: int) -> AnyManifest:
        for child in manifest.children:
            if child.media_type in MANIFEST_TYPES | INDEX_TYPES:
                found = self.add(child.digest, depth + 1)
                if len(found.raw) != child.size:
                    raise ProtocolViolation(
                        f"{self.name}@{manifest.digest}: says {child.size} bytes of "
                        f"{child.digest}, found {len(found.raw)}"
                    )
            else:
                self.add_blob(child)
        for blob in manifest.blobs:
            self.add_blob(blob)
        self.manifests[manifest.digest] = manifest
        return manifest

    def add_blob(self, blob: Descriptor) -> None:
        known = self.blobs.setdefault(blob.digest, blob)
        if known.size != blob.size:
            raise ProtocolViolation(
                f"blob {blob.digest} of {self.name}: said to have {known.size} and {blob.size} bytes"
            )
        # Non-distributable layers stay where their URLs say, unless the registry has them after all.
        if known is blob and blob.foreign and self.client.head_blob(self.name, blob.digest) is None:
            del self.blobs[blob.digest]

    def add_referrers(self) -> None:
        """Add what refers to the manifests, and what refers to that."""
        waiting = [(digest, 0) for digest in self.manifests]
        for subject, level in waiting:  # grows while it is walked
            for entry in list_referrers(self.client, self.name, subject):
                if level >= MAX_DEPTH:
                    raise ProtocolViolation(
                        f"{self.name}@{subject}: expected at most {MAX_DEPTH} referrers in a row"
                    )
                before = set(self.manifests)
                manifest = self.referrer(entry, subject)
                if manifest is not None:
                    self.links.append((subject, manifest.descriptor()))
                    waiting.extend((digest, level + 1) for digest in self.manifests if digest not in before)

    def referrer(self, entry: Descriptor, subject: str) -> AnyManifest | None:
        try:
            manifest = self.manifests.get(entry.digest) or self.fetch(entry.digest)
        except NotFound:
            # Fallback indexes keep the entries of referrers that were deleted since.
            return None
        if manifest.subject is None or manifest.subject.digest != subject:
            # Anybody who may push can write such an index; a manifest that does not agree is no referrer.
            return None
        return self.add_fetched(manifest, 1)


def read_closure(client: RegistryClient, name: str, digest: str, *, referrers: bool) -> Closure:
    """Read all manifests of an image, and learn its blobs from them.

    Args:
        client: The registry.
        name: Repository.
        digest: Manifest or index.
        referrers: Whether what refers to any of the manifests belongs to it, and what refers to that.

    Raises:
        NotFound: The manifest or one of its children is missing.
        ProtocolViolation: More than 1000 manifests, 64 MiB of them, or 4 levels; or sizes that disagree.
    """
    walk = _Walk(client, name)
    walk.add(digest, 0)
    if referrers:
        walk.add_referrers()
    return Closure(tuple(walk.manifests.values()), tuple(walk.blobs.values()), tuple(walk.links))


def platforms(client: RegistryClient, name: str, digest: str) -> dict[str, Descriptor]:
    """The images under a digest by platform: `linux/arm64` to its manifest, in the index's order.

    An index's attestations (platform `unknown/unknown`) are left out. Where two images have one platform,
    the first counts, as it does for those who pull. A child that names no platform is asked for its config.

    Raises:
        NotFound: The manifest, or a config, is not there.
        ProtocolViolation: It is an artifact and no image, or indexes are nested too deep.
    """
    found: dict[str, Descriptor] = {}
    _collect_platforms(client, name, client.get_manifest(name, digest), found, 0)
    return found


def _collect_platforms(
    client: RegistryClient, name: str, manifest: AnyManifest, found: dict[str, Descriptor], depth: int
) -> None:
    if isinstance(manifest, Manifest):
        found.setdefault(_config_platform(client, name, manifest), manifest.descriptor())
        return
    if depth >= MAX_DEPTH:
        raise ProtocolViolation(
            f"{name}@{manifest.digest}: expected at most {MAX_DEPTH} indexes inside each other"
        )
    for child in manifest.children:
        if child.media_type in INDEX_TYPES or (
            child.media_type in MANIFEST_TYPES and not child.platform_name
        ):
            _collect_platforms(client, name, client.get_manifest(name, child.digest), found, depth + 1)
        elif child.media_type in MANIFEST_TYPES and child.platform_name != UNKNOWN:
            found.setdefault(child.platform_name, child)


def _config_platform(client: RegistryClient, name: str, manifest: Manifest) -> str:
    what = f"{name}@{manifest.digest}"
    if manifest.config.media_type not in IMAGE_CONFIG_TYPES:
        raise ProtocolViolation(
            f"{what}: expected an image, found an artifact with the config "
            f"{manifest.config.media_type[:100]!r}"
        )
    raw = client.get_blob(name, manifest.config.digest, MAX_CONFIG)
    config = fields.load_object(raw, f"config of {what}")
    parts = {key: fields.text(config, key, f"config of {what}") for key in ("os", "architecture", "variant")}
    return platform_name(dict(parts))
