"""Manifests, indexes and descriptors as values: parsed strictly, kept byte for byte, built deterministically.

A parsed manifest keeps its original bytes, since the digest covers them.

Source: OCI image spec 1.1 (manifest, image-index, descriptor); Docker image manifest version 2, schema 2.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from delivery_chain.core.names.platform import platform_name
from delivery_chain.core.names.reference import check_digest, digest_of, sha256_digest
from delivery_chain.errors import InvalidReference, ProtocolViolation
from delivery_chain.oci import json_fields

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"

MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})
IMAGE_CONFIG_TYPES = frozenset({OCI_CONFIG, DOCKER_CONFIG})
ACCEPT = f"{OCI_INDEX}, {OCI_MANIFEST}, {DOCKER_LIST}, {DOCKER_MANIFEST}"
"""`Accept` header for every manifest this project can copy. Schema 1 is not among them."""

SCHEMA_VERSION = 2
"""The only version defined for these types."""
MAX_MANIFEST = 4 * 1024 * 1024
"""Maximum size of a manifest in bytes: the distribution spec asks registries to accept at least this much."""
MAX_ENTRIES = 1000
"""Maximum number of layers of one manifest, or of children of one index. Runtimes stop at 127 layers."""

_ARTIFACT_KEYS = {"mediaType", "artifactType", "annotations"}
_MANIFEST_KEYS = _ARTIFACT_KEYS | {"schemaVersion", "config", "layers", "manifests", "subject", "fsLayers"}
_DESCRIPTOR_KEYS = _ARTIFACT_KEYS | {"digest", "size", "urls", "data", "platform"}
EMPTY_BLOB = b"{}"
"""Config of an artifact that has none of its own (OCI image spec, "Guidance for an Empty Descriptor")."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """Reference from a manifest to other content."""

    media_type: str
    digest: str
    size: int
    """Bytes."""
    artifact_type: str = ""
    platform: Mapping[str, Any] | None = field(default=None, hash=False)
    """`{"os", "architecture"[, "variant"]}`, on an index's children."""
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    urls: tuple[str, ...] = ()
    """Download URLs of a non-distributable layer. Never fetched by this project."""

    @property
    def platform_name(self) -> str:
        """Platform such as `linux/arm64`; empty if the descriptor has none."""
        return platform_name(dict(self.platform)) if self.platform is not None else ""

    @property
    def foreign(self) -> bool:
        """Whether a registry may lack these bytes by design (non-distributable layers)."""
        return bool(self.urls)

    def to_json(self) -> dict[str, Any]:
        """Convert to JSON types, keys in the spec's order, empty ones omitted."""
        optional: dict[str, Any] = {
            "artifactType": self.artifact_type,
            "platform": dict(self.platform) if self.platform is not None else None,
            "annotations": dict(sorted(self.annotations.items())),
            "urls": list(self.urls),
        }
        required: dict[str, Any] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        return required | {key: value for key, value in optional.items() if value}


EMPTY_CONFIG = Descriptor(media_type=OCI_EMPTY, digest=sha256_digest(EMPTY_BLOB), size=len(EMPTY_BLOB))


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image or artifact: a config and layers."""

    raw: bytes = field(repr=False)
    """Original bytes, as the registry holds them."""
    digest: str
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    """The manifest that this one refers to, if this one is a referrer."""
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Config, then layers, in the manifest's order."""
        return (self.config, *self.layers)

    @property
    def children(self) -> tuple[Descriptor, ...]:
        """Empty: an image references no other manifest."""
        return ()

    def descriptor(self) -> Descriptor:
        """Descriptor of this manifest for an index or referrers list."""
        kind = self.artifact_type or self.config.media_type
        return Descriptor(self.media_type, self.digest, len(self.raw), kind, annotations=self.annotations)


@dataclass(frozen=True, slots=True)
class Index:
    """Several manifests under one digest: an image index or a Docker manifest list."""

    raw: bytes = field(repr=False)
    """Original bytes, as the registry holds them."""
    digest: str
    media_type: str
    children: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Empty: only an index's children have blobs."""
        return ()

    def descriptor(self) -> Descriptor:
        """Descriptor of this index for another index or referrers list."""
        return Descriptor(
            self.media_type, self.digest, len(self.raw), self.artifact_type, annotations=self.annotations
        )


AnyManifest = Manifest | Index


def parse_manifest(raw: bytes, media_type: str = "") -> AnyManifest:
    """Parse a manifest.

    Args:
        raw: The bytes; more than 4 MiB are rejected.
        media_type: From the registry's `Content-Type` or a descriptor; empty if unknown.

    Returns:
        A `Manifest` or an `Index`, with `raw` kept and its sha256 as `digest`.

    Raises:
        ProtocolViolation: The manifest is too large, not JSON, of an unknown type (such as Docker schema 1), of two
            types at once (CVE-2021-41190), or has a malformed part. Not retryable.
    """
    digest = sha256_digest(raw)
    what = f"manifest {digest}"
    if len(raw) > MAX_MANIFEST:
        raise ProtocolViolation(f"{what}: expected at most {MAX_MANIFEST} bytes, found {len(raw)}")
    data = json_fields.load_object(raw, what)
    json_fields.exact_keys(data, _MANIFEST_KEYS, what)
    kind = _media_type(data, media_type, what)
    if json_fields.number(data, "schemaVersion", what) != SCHEMA_VERSION:
        raise ProtocolViolation(f"{what}: expected schemaVersion 2, found {data['schemaVersion']}")
    subject = json_fields.table(data, "subject", what)
    common: dict[str, Any] = {
        "raw": raw,
        "digest": digest,
        "media_type": kind,
        "subject": None if subject is None else parse_descriptor(subject, f"{what}: subject"),
        "artifact_type": json_fields.text(data, "artifactType", what),
        "annotations": json_fields.strings(data, "annotations", what),
    }
    if kind in INDEX_TYPES:
        return Index(children=_descriptors(data, "manifests", what), **common)
    config = parse_descriptor(json_fields.table(data, "config", what) or {}, f"{what}: config")
    return Manifest(config=config, layers=_descriptors(data, "layers", what), **common)


def parse_descriptor(data: Any, what: str) -> Descriptor:
    """Parse one descriptor.

    Raises:
        ProtocolViolation: `data` is not an object, lacks a field or has one of the wrong type, or its digest is of an
            unsupported kind.
    """
    if not isinstance(data, dict):
        raise ProtocolViolation(f"{what}: expected a descriptor object, found {type(data).__name__}")
    json_fields.exact_keys(data, _DESCRIPTOR_KEYS, what)
    try:
        digest = check_digest(json_fields.text(data, "digest", what, required=True))
    except InvalidReference as error:
        raise ProtocolViolation(f"{what}: {error}") from error
    _check_embedded(json_fields.text(data, "data", what), digest, what)
    urls = json_fields.rows(data, "urls", what, limit=MAX_ENTRIES)
    if not all(isinstance(url, str) for url in urls):
        raise ProtocolViolation(f"{what}: expected strings in 'urls'")
    return Descriptor(
        media_type=json_fields.text(data, "mediaType", what, required=True),
        digest=digest,
        size=json_fields.number(data, "size", what),
        artifact_type=json_fields.text(data, "artifactType", what),
        platform=json_fields.table(data, "platform", what),
        annotations=json_fields.strings(data, "annotations", what),
        urls=tuple(urls),
    )


def _check_embedded(text: str, digest: str, what: str) -> None:
    """Reject embedded content (`data`) that does not match the digest: some clients would use it unchecked."""
    if not text:
        return
    try:
        content = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ProtocolViolation(f"{what}: expected base64 in 'data', found something else") from error
    if digest != digest_of(content, digest.partition(":")[0]):
        raise ProtocolViolation(f"{what}: its 'data' does not match its digest {digest}")


def build_index(
    children: Sequence[Descriptor],
    annotations: Mapping[str, str] | None = None,
    subject: Descriptor | None = None,
) -> bytes:
    """Build an OCI image index. Equal arguments give equal bytes.

    Args:
        children: Descriptors in index order. Runtimes pick the first one that fits.
        annotations: Annotations of the index itself; written sorted by key.
        subject: The manifest it refers to, for an index that is a referrer.
    """
    return _encode(
        {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [child.to_json() for child in children],
            **_optional(subject, annotations),
        }
    )


def build_artifact_manifest(
    artifact_type: str,
    subject: Descriptor | None,
    layers: Sequence[Descriptor],
    annotations: Mapping[str, str] | None = None,
) -> bytes:
    """Build a referrer of `subject` with the empty config. Equal arguments give equal bytes.

    Source: OCI image spec 1.1, "Guidelines for Artifact Usage".
    """
    return _encode(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": artifact_type,
            "config": EMPTY_CONFIG.to_json(),
            "layers": [layer.to_json() for layer in layers],
            **_optional(subject, annotations),
        }
    )


def plain(descriptor: Descriptor) -> Descriptor:
    """Reduce a descriptor to media type, digest and size, the fields of a `subject`."""
    return Descriptor(descriptor.media_type, descriptor.digest, descriptor.size)


def _optional(subject: Descriptor | None, annotations: Mapping[str, str] | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if subject is not None:
        found["subject"] = plain(subject).to_json()
    if annotations:
        found["annotations"] = dict(sorted(annotations.items()))
    return found


def _encode(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _media_type(data: dict[str, Any], said: str, what: str) -> str:
    inside = json_fields.text(data, "mediaType", what)
    outside = said.partition(";")[0].strip().lower()
    known = MANIFEST_TYPES | INDEX_TYPES
    if inside and outside in known and inside != outside:
        raise ProtocolViolation(f"{what}: the registry says {outside}, the manifest itself says {inside}")
    kind = inside or outside
    if kind not in known:
        raise ProtocolViolation(
            f"{what}: media type {kind[:200]!r} can't be copied. Expected an OCI or Docker (schema 2) "
            "manifest or index. Push the image again with a current tool"
        )
    wrong = {"config", "layers", "fsLayers"} if kind in INDEX_TYPES else {"manifests", "fsLayers"}
    if wrong & data.keys():
        raise ProtocolViolation(
            f"{what}: {kind} with {sorted(wrong & data.keys())} could be read as two images"
        )
    return kind


def _descriptors(data: dict[str, Any], key: str, what: str) -> tuple[Descriptor, ...]:
    if key not in data:
        raise ProtocolViolation(f"{what}: expected a list for {key!r}, found nothing")
    entries = json_fields.rows(data, key, what, limit=MAX_ENTRIES)
    return tuple(parse_descriptor(entry, f"{what}: {key}[{at}]") for at, entry in enumerate(entries))
