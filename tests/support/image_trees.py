"""Trees of manifests as users and tools create them, and as attackers might to get an image past the gate.

They are built in memory; `upload` pushes them to a registry.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from delivery_chain.core.names.reference import sha256_digest
from delivery_chain.errors import NotFound, ProtocolViolation
from delivery_chain.oci.manifest import (
    DOCKER_CONFIG,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_EMPTY,
    OCI_INDEX,
    OCI_MANIFEST,
    AnyManifest,
    parse_manifest,
)
from delivery_chain.oci.non_images import Content

if TYPE_CHECKING:
    from collections.abc import Mapping

    from delivery_chain.oci.client import RegistryClient
    from delivery_chain.oci.manifest import Descriptor

Entry = dict[str, Any]
"""A descriptor as JSON."""
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
IN_TOTO = "application/vnd.in-toto+json"
HELM_CONFIG = "application/vnd.cncf.helm.config.v1+json"
HELM_LAYER = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
CACHE_CONFIG = "application/vnd.buildkit.cacheconfig.v0"
ZSTD = {"io.github.containers.compression.zstd": "true"}
"""Annotations that podman and related tools check to choose a variant."""
UNKNOWN = {"os": "unknown", "architecture": "unknown"}


def archive(files: Mapping[str, str | bytes]) -> bytes:
    """Return a tar of some files."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path in sorted(files):
            content = files[path]
            content = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(path)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def parts(platform: str) -> dict[str, str]:
    """Convert `linux/arm/v7` to `{"os", "architecture", "variant"}`."""
    return dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))


@dataclass(slots=True)
class Forest:
    """Blobs and manifests of one repository."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    """Maps digests to media type and bytes, children before the index that references them."""

    def blob(self, content: bytes, media_type: str) -> Entry:
        """A blob's entry in a manifest."""
        digest = sha256_digest(content)
        self.blobs[digest] = content
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    def put(self, document: Mapping[str, Any], media_type: str) -> Entry:
        """Put a manifest; return its entry for an index."""
        raw = json.dumps(document).encode()
        digest = sha256_digest(raw)
        self.manifests[digest] = media_type, raw
        return {"mediaType": media_type, "digest": digest, "size": len(raw)}

    def manifest(self, config: Entry, *layers: Entry, media_type: str = OCI_MANIFEST, **more: Any) -> Entry:
        """An image or artifact manifest."""
        known = {"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": list(layers)}
        return self.put(known | more, media_type)

    def image(
        self,
        files: Mapping[str, str | bytes] | None = None,
        platform: str = "linux/amd64",
        *,
        docker: bool = False,
        config_type: str = "",
        layer_type: str = "",
        said: Mapping[str, Any] | None = None,
        more: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> Entry:
        """A whole image.

        Args:
            files: Files of its one layer.
            platform: Platform in its config.
            docker: Whether it is of Docker's media types.
            config_type: Media type of the config in the manifest.
            layer_type: Media type of the layer in the manifest.
            said: Its platform in an index; by default that of the config.
            more: More fields of the config.
            fields: More fields of the manifest.
        """
        tar = archive(files if files is not None else {"hello": f"hello {platform}"})
        root = {"type": "layers", "diff_ids": [sha256_digest(tar)]}
        config = json.dumps({**parts(platform), "config": {}, "rootfs": root, **(more or {})}).encode()
        entry = self.manifest(
            self.blob(config, config_type or (DOCKER_CONFIG if docker else OCI_CONFIG)),
            self.blob(gzip.compress(tar, mtime=0), layer_type or (DOCKER_LAYER if docker else LAYER)),
            media_type=DOCKER_MANIFEST if docker else OCI_MANIFEST,
            **fields,
        )
        return entry | {"platform": dict(said) if said is not None else parts(platform)}

    def attestation(
        self,
        about: Entry,
        *,
        layer: bytes | None = None,
        layer_type: str = IN_TOTO,
        platform: str = "unknown/unknown",
    ) -> Entry:
        """An attestation as BuildKit puts it next to an image, or, with other bytes or types, an imitation."""
        statement = {"_type": "https://in-toto.io/Statement/v0.1", "subject": [{"digest": about["digest"]}]}
        content = json.dumps(statement).encode() if layer is None else layer
        config = {
            **parts(platform),
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [sha256_digest(content)]},
        }
        entry = self.manifest(
            self.blob(json.dumps(config).encode(), OCI_CONFIG), self.blob(content, layer_type)
        )
        return entry | {"platform": dict(UNKNOWN), "annotations": attests(about)}

    def index(self, *children: Entry, media_type: str = OCI_INDEX, **more: Any) -> Entry:
        """An index, or a Docker manifest list."""
        known = {"schemaVersion": 2, "mediaType": media_type, "manifests": list(children)}
        return self.put(known | more, media_type)

    def chart(self, **more: Any) -> Entry:
        """A Helm chart."""
        config = self.blob(b'{"name": "shop", "version": "1.0.0", "apiVersion": "v2"}', HELM_CONFIG)
        content = self.blob(gzip.compress(archive({"shop/Chart.yaml": "name: shop"}), mtime=0), HELM_LAYER)
        return self.manifest(config, content, **more)

    def wasm(self, **more: Any) -> Entry:
        """A WebAssembly component."""
        about = {
            "created": "2026-01-01T00:00:00Z",
            "architecture": "wasm",
            "os": "wasip2",
            "layerDigests": [],
        }
        config = self.blob(json.dumps(about).encode(), "application/vnd.wasm.config.v0+json")
        return self.manifest(config, self.blob(b"\0asm\x0d\0\x01\0", "application/wasm"), **more)

    def files(self, **more: Any) -> Entry:
        """A file as `oras push` stores it, which labels any file as an image's layer."""
        layer = self.blob(b"some file\n", "application/vnd.oci.image.layer.v1.tar")
        kind = {"artifactType": "application/vnd.unknown.artifact.v1"}
        return self.manifest(self.blob(b"{}", OCI_EMPTY), layer, **(kind | more))

    def signature(
        self, about: Entry, layer: bytes | None = None, layer_type: str = SIMPLE_SIGNING, **more: Any
    ) -> Entry:
        """A signature as cosign stores it under a tag: an image's config, and a layer that is JSON."""
        said = {"critical": {"image": {"docker-manifest-digest": about["digest"]}}}
        content = json.dumps(said).encode() if layer is None else layer
        root = {"type": "layers", "diff_ids": [sha256_digest(content)]}
        config = json.dumps({"architecture": "", "os": "", "rootfs": root, "config": {}}).encode()
        return self.manifest(self.blob(config, OCI_CONFIG), self.blob(content, layer_type), **more)

    def build_cache(self) -> Entry:
        """A cache as BuildKit stores it: an index of layers."""
        layer = self.blob(gzip.compress(b"cached", mtime=0), LAYER)
        config = self.blob(b'{"layers": [], "records": []}', CACHE_CONFIG)
        return self.index(layer, config)

    def fetch(self, digest: str) -> AnyManifest:
        """A manifest, as a registry would return it."""
        if digest not in self.manifests:
            raise NotFound(f"no manifest {digest}")
        media_type, raw = self.manifests[digest]
        return parse_manifest(raw, media_type)

    def content(self) -> Content:
        """The blobs."""
        return Content("shop/api", self._blob, self._begin)

    def _blob(self, digest: str, most: int) -> bytes:
        if digest not in self.blobs:
            raise NotFound(f"no blob {digest}")
        if len(self.blobs[digest]) > most:
            raise ProtocolViolation(f"blob {digest} is too large")
        return self.blobs[digest]

    def _begin(self, blob: Descriptor) -> bytes:
        return self._blob(blob.digest, 2**40)[:512]

    def upload(self, client: RegistryClient, name: str, tag: str = "", entry: Entry | None = None) -> str:
        """Push everything to a repository, and one manifest under a tag; return its digest."""
        for content in self.blobs.values():
            client.put_blob_bytes(name, content)
        for digest, (media_type, raw) in self.manifests.items():
            client.put_manifest(name, digest, raw, media_type)
        if entry is None:
            return ""
        media_type, raw = self.manifests[entry["digest"]]
        return client.put_manifest(name, tag, raw, media_type)


def attests(about: Entry) -> dict[str, str]:
    """Annotations of an attestation."""
    return {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": about["digest"],
    }


__all__ = ["DOCKER_LIST", "Entry", "Forest", "archive", "attests", "parts"]
