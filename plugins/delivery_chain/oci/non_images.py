"""Prove that something in an image's tree is not an image; see `inventory` for why names prove nothing.

Each proof returns the kind of thing, or an empty string if the thing has to be treated as an image.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from delivery_chain.core.names.platform import UNKNOWN, platform_name
from delivery_chain.errors import NotFound, ProtocolViolation
from delivery_chain.oci import json_fields
from delivery_chain.oci.manifest import (
    EMPTY_CONFIG,
    IMAGE_CONFIG_TYPES,
    OCI_MANIFEST,
    Descriptor,
    Index,
    Manifest,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

REFERENCE_TYPE = "vnd.docker.reference.type"
REFERENCE_DIGEST = "vnd.docker.reference.digest"
ATTESTATION = "attestation-manifest"
IN_TOTO = "application/vnd.in-toto+json"
CACHE_CONFIG = "application/vnd.buildkit.cacheconfig.v0"
TAKEN_FOR_IMAGES = IMAGE_CONFIG_TYPES | {"application/octet-stream", "application/json", "text/html", ""}
"""Config media types with which some runtime treats a manifest as an image."""
IMAGE_LAYERS = ("application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs.")
"""Prefixes of the media types of image layers."""
MAX_CONFIG = 8 * 1024 * 1024
"""Maximum size of an image's config, in bytes: history and labels of the longest Dockerfiles stay below 1 MiB."""
MAX_STATEMENT = 32 * 1024 * 1024
"""Maximum size of one attestation or signature, in bytes: SBOMs of large images have 10 to 20 MB."""
MAX_STATEMENTS = 128 * 1024 * 1024
"""Maximum total size of all attestations and signatures in one tree, in bytes. Anything beyond counts as an image."""
_MANIFEST_KEYS = {"schemaversion", "mediatype", "manifests", "config", "fslayers"}
_PACKED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")
"""Magic bytes of gzip and zstd."""
_SHOWN = 100


@dataclass(slots=True)
class Content:
    """Blobs of one repository, read for proofs. Caches results and reads no more than necessary."""

    name: str
    fetch: Callable[[str, int], bytes]
    """Returns a blob by digest, verified, up to a number of bytes."""
    begin: Callable[[Descriptor], bytes]
    """Returns the first bytes of a blob, not verified."""
    left: int = MAX_STATEMENTS
    json: dict[str, bool] = field(default_factory=dict)

    def config(self, manifest: Manifest) -> bytes:
        """Return the config of a manifest."""
        return self.fetch(manifest.config.digest, MAX_CONFIG)

    def is_json(self, blob: Descriptor) -> bool:
        """Whether a blob is one JSON document, and therefore not a file system in any compression."""
        if blob.digest not in self.json:
            self.json[blob.digest] = self._is_json(blob)
        return self.json[blob.digest]

    def _is_json(self, blob: Descriptor) -> bool:
        if blob.size > min(MAX_STATEMENT, self.left):
            return False
        self.left -= blob.size
        try:
            return isinstance(json.loads(self.fetch(blob.digest, blob.size)), dict)
        except (ValueError, RecursionError, NotFound, ProtocolViolation):
            return False


def artifact(content: Content, manifest: Manifest) -> str:
    """Prove an artifact: neither the type of its config nor the config itself makes a runtime treat it as an image."""
    if manifest.media_type != OCI_MANIFEST or _kind(manifest.config) in TAKEN_FOR_IMAGES:
        return ""
    if manifest.config.digest != EMPTY_CONFIG.digest and _has_root(content.config(manifest)):
        return ""
    return f"artifact {manifest.artifact_type or manifest.config.media_type}"[:_SHOWN]


def statements(content: Content, manifest: Manifest) -> str:
    """Prove a signature or attestation as written by cosign: an image config, and layers that are JSON documents."""
    if manifest.media_type != OCI_MANIFEST or not manifest.layers:
        return ""
    if any(_kind(layer).startswith(IMAGE_LAYERS) or layer.foreign for layer in manifest.layers):
        return ""
    if not all(content.is_json(layer) for layer in manifest.layers):
        return ""
    return f"signature {manifest.layers[0].media_type}"[:_SHOWN]


def attestation(content: Content, manifest: Manifest, entry: Descriptor, index: Index) -> str:
    """Prove an attestation as BuildKit adds it to an index: its annotation, config and layers must agree."""
    about = entry.annotations.get(REFERENCE_DIGEST)
    beside = {child.digest for child in index.children if child.digest != entry.digest}
    if entry.annotations.get(REFERENCE_TYPE) != ATTESTATION or about not in beside:
        return ""
    if any(_kind(layer) != IN_TOTO for layer in manifest.layers):
        return ""
    if _kind(manifest.config) in IMAGE_CONFIG_TYPES:
        config = _first_json(content.config(manifest))
        if not isinstance(config, dict) or platform_name(config) != UNKNOWN:
            return ""
    elif not artifact(content, manifest):
        return ""
    return "attestation" if statements(content, manifest) else ""


def blob_child(content: Content, index: Index, child: Descriptor) -> str:
    """Prove that a child is a blob, as in the indexes that BuildKit stores caches in.

    Some registries serve any blob as a manifest if its bytes parse as one, so a blob whose bytes do is rejected.

    Raises:
        ProtocolViolation: The child is not a known kind of blob, or could be served as a manifest.
    """
    kind = _kind(child)
    if kind.startswith(IMAGE_LAYERS) and _is_packed(content, child):
        return "layer"
    if kind == CACHE_CONFIG:
        found = _first_json(content.fetch(child.digest, MAX_CONFIG))
        if isinstance(found, dict) and not _MANIFEST_KEYS & {key.casefold() for key in found}:
            return "build cache"
    raise ProtocolViolation(
        f"{content.name}@{index.digest}: its child {child.digest} of media type {child.media_type[:_SHOWN]!r} is "
        "neither an image nor proven not to be one, so the index is rejected. Build the index again without it"
    )


def image_platform(content: Content, manifest: Manifest, said: Mapping[str, Any] | None) -> str:
    """Return an image's platform from its own config. If that lacks the platform or its variant, the index supplies it.

    Raises:
        ProtocolViolation: A runtime could not read the config.
    """
    what = f"config of {content.name}@{manifest.digest}"
    config = json_fields.load_object(content.config(manifest), what)
    own = {key: json_fields.text(config, key, what) for key in ("os", "architecture", "variant")}
    name = platform_name(dict(own))
    outside = platform_name(dict(said)) if said else UNKNOWN
    if name == UNKNOWN:
        return outside
    same = outside.split("/")[:2] == name.split("/")[:2]
    return outside if same and not own["variant"] else name


def _kind(entry: Descriptor) -> str:
    return entry.media_type.partition(";")[0].strip().lower()


def _has_root(raw: bytes) -> bool:
    found = _first_json(raw)
    return isinstance(found, dict) and any(key.casefold() == "rootfs" for key in found)


def _first_json(raw: bytes) -> Any:
    """Parse the first JSON value at least as leniently as Go's decoder does; return None without one."""
    decoder = json.JSONDecoder(strict=False, parse_int=len, parse_float=len)
    try:
        return decoder.raw_decode(raw.decode(errors="replace").lstrip())[0]
    except ValueError:
        return None
    except RecursionError:
        # Go parses deeper nesting than Python does, so count a document that is too deep as the config of an image.
        return {"rootfs": None, "config": None}


def _is_packed(content: Content, child: Descriptor) -> bool:
    """Whether a child begins like an archive. A manifest never does, because JSON can't start with these bytes."""
    begin = content.begin(child)
    return begin.startswith(_PACKED) or b"\0" in begin
