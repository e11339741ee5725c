"""Copies for tests of faults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.copy.api import copy_image
from delivery_chain.oci.copy.limits import Limits

if TYPE_CHECKING:
    from delivery_chain.oci.copy.api import CopyResult

NAME = "shop/api"
LAYER = 1_500_000
SOON = 0.002


def whole(client: RegistryClient, name: str, digest: str) -> bool:
    """Whether a target can serve every byte of an image."""
    manifest = client.get_manifest(name, digest)
    return all(len(client.get_blob(name, blob.digest)) == blob.size for blob in manifest.blobs)


def copied(
    source: Any, target: Any, name: str, digest: str, *, timeout: float = 20, **more: Any
) -> CopyResult:
    """Copy with clients of its own and short waits."""
    with (
        RegistryClient(source, timeout=timeout) as here,
        RegistryClient(target, timeout=timeout) as there,
    ):
        return copy_image(here, name, digest, there, name, **{"limits": Limits(first_wait=SOON), **more})
