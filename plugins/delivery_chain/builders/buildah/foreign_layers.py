"""Rejects base images with foreign layers before buildah pulls them: it would fetch those from any URL they name.

buildah fetches them over the network of the pull, which for the chain's registries is the worker's. So the manifest is
read first, and the image is then pulled by the digest that was read, because a tag may move in between.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from delivery_chain.core.dockerfile.base_image_policy import DOCKER_HUB, canonical_host
from delivery_chain.core.names.platform import platform_name
from delivery_chain.errors import BuildFailed, NotFound
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.closure import MAX_DEPTH
from delivery_chain.oci.manifest import INDEX_TYPES, MANIFEST_TYPES, Index

if TYPE_CHECKING:
    from collections.abc import Iterator

    from delivery_chain.core.dockerfile.base_image_policy import ImageName
    from delivery_chain.core.names.registry import Registry
    from delivery_chain.oci.manifest import AnyManifest, Descriptor

_HUB_API = "registry-1.docker.io"


def pinned(image: ImageName, registry: Registry, platform: str, written: str) -> ImageName:
    """Pin the image to its current digest, after checking that all its layers are in its registry.

    Args:
        image: The requested image.
        registry: The registry to fetch it from, with the login.
        platform: Platform of the pull; images of other platforms are not checked.
        written: Where the image is named, such as a line of the Dockerfile; for messages.

    Raises:
        BuildFailed: A layer has URLs. Nothing was pulled. Not retryable.
        RegistryError: The manifest could not be read; its class says whether to retry.
    """
    if canonical_host(registry.host) == DOCKER_HUB:
        registry = replace(registry, host=_HUB_API)
    with RegistryClient(registry) as client:
        top = client.get_manifest(image.repository, image.digest or image.tag)
        for manifest in _images(client, image.repository, top, platform, 0):
            elsewhere = [layer.digest for layer in manifest.blobs if layer.urls]
            if elsewhere:
                raise BuildFailed(
                    f"{written}: {image} has layers that are stored outside its registry, such as {elsewhere[0]}, but "
                    "a build fetches only from registries. Push the image with these layers, or use another one",
                    tool="buildah",
                )
    return replace(image, tag="", digest=top.digest)


def _images(
    client: RegistryClient, name: str, manifest: AnyManifest, platform: str, depth: int
) -> Iterator[AnyManifest]:
    """Yield every image that may be chosen for the platform."""
    if not isinstance(manifest, Index):
        yield manifest
        return
    for child in manifest.children if depth < MAX_DEPTH else ():
        if child.media_type in MANIFEST_TYPES | INDEX_TYPES and _fits(child, platform):
            try:
                below = client.get_manifest(name, child.digest)
            except NotFound:
                # An index may be sparse; buildah fails if it needs this image.
                continue
            yield from _images(client, name, below, platform, depth + 1)


def _fits(child: Descriptor, platform: str) -> bool:
    """Whether a child of an index may be chosen; if several variants fit, buildah decides."""
    said = platform_name(dict(child.platform)) if child.platform else platform
    return said.split("/")[:2] == platform.split("/")[:2]
