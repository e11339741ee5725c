"""Small images of random bytes, pushed to a registry with the client."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING

from delivery_chain.oci.manifest import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    build_index,
    parse_manifest,
)

if TYPE_CHECKING:
    from delivery_chain.oci.client import RegistryClient

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def noise(seed: int, size: int) -> bytes:
    """`size` bytes that are equal for equal seeds."""
    return random.Random(seed).randbytes(size)  # noqa: S311


def push_image(
    client: RegistryClient,
    name: str,
    *,
    seed: int = 1,
    platform: str = "linux/amd64",
    sizes: tuple[int, ...] = (3000, 70_000),
) -> Descriptor:
    """Push an image with a layer for each of `sizes`, without a tag.

    Returns:
        Its descriptor, with the platform.
    """
    os_name, architecture = platform.split("/")
    config = json.dumps({"os": os_name, "architecture": architecture, "seed": seed}).encode()
    config_entry = replace(client.put_blob_bytes(name, config), media_type=OCI_CONFIG)
    layers = [
        replace(client.put_blob_bytes(name, noise(seed * 100 + at, size)), media_type=LAYER)
        for at, size in enumerate(sizes)
    ]
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config_entry.to_json(),
        "layers": [layer.to_json() for layer in layers],
    }
    raw = json.dumps(document).encode()
    entry = parse_manifest(raw, OCI_MANIFEST).descriptor()
    client.put_manifest(name, entry.digest, raw, OCI_MANIFEST)
    return Descriptor(
        entry.media_type, entry.digest, entry.size, platform={"os": os_name, "architecture": architecture}
    )


def push_index(client: RegistryClient, name: str, children: tuple[Descriptor, ...]) -> Descriptor:
    """Push an index of `children`, without a tag."""
    raw = build_index(children)
    entry = parse_manifest(raw, OCI_INDEX).descriptor()
    client.put_manifest(name, entry.digest, raw, OCI_INDEX)
    return entry
