"""Select the image for Trivy by digest, after checking that Trivy would see all of it.

Trivy follows the config's list of layers, not the manifest's, reads equal entries once, and fetches what the registry
lacks from URLs that whoever pushed the image wrote. Podman unpacks what the manifest lists. Some layers are one archive
to Trivy and another to a runtime. So each layer is read here first: unpacked, it has to match the config, as runtimes
require.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.core.names.reference import Reference
from delivery_chain.errors import ProtocolViolation, ScanFailed, ToolTimeout
from delivery_chain.oci import json_fields
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.layer_files import Budget, LayerUnreadable, TooLate, check_layer
from delivery_chain.oci.manifest import MAX_ENTRIES, Index
from delivery_chain.oci.non_images import MAX_CONFIG

if TYPE_CHECKING:
    from delivery_chain.oci.manifest import Manifest
    from delivery_chain.scanners.interface import ImageRef

MOST_BYTES = 2**50
"""Maximum number of unpacked bytes of an image; the scan times out long before."""


def image_to_scan(image: ImageRef, platform: str, *, deadline: float) -> tuple[Reference, Manifest]:
    """Return the reference to pass to Trivy, and the manifest.

    Uses this package's registry client, so that wrong credentials raise a specific error.

    Args:
        image: The image to scan.
        platform: Its platform, for messages.
        deadline: Time of `time.monotonic()`, seconds.

    Raises:
        ScanFailed: It is an index, or Trivy would not see all of its layers. Not retryable.
        ToolTimeout: Reading the layers exceeded the deadline. Not retryable.
        RegistryError: It can't be read.
    """
    what = f"scan of {image.name}@{image.digest} for {platform}"
    try:
        return Reference(host=image.registry.host, name=image.name, digest=image.digest), _seen(
            image, deadline
        )
    except TooLate as error:
        raise ToolTimeout(
            f"{what}, before trivy began: {error}; raise timeout_minutes in the chain's scan section",
            tool="trivy",
        ) from error
    except _Unseen as error:
        raise ScanFailed(f"{what}: {error}", tool="trivy") from error


class _Unseen(Exception):
    """Trivy would not see all of the image. The message gives the reason and the next step."""


def _seen(image: ImageRef, deadline: float) -> Manifest:
    """Return the manifest after checking every layer."""
    with RegistryClient(image.registry) as client:
        manifest = client.get_manifest(image.name, image.digest)
        if isinstance(manifest, Index):
            raise _Unseen("expected one image, found an index of several; scan each by its own digest")
        _check_present(image, client, manifest)
        listed = _listed(image, client, manifest)
        budget = Budget(deadline, most_bytes=MOST_BYTES)
        try:
            for layer, diff_id in dict.fromkeys(zip(manifest.layers, listed, strict=True)):
                check_layer(client, image.name, layer, diff_id, budget)
        except TooLate:
            raise
        except LayerUnreadable as error:
            raise _Unseen(f"not every reader would see the same files: {error}. Build it again") from error
    return manifest


def _check_present(image: ImageRef, client: RegistryClient, manifest: Manifest) -> None:
    """Refuse layers that are stored elsewhere, as they can't be scanned."""
    missing = [
        layer.digest
        for layer in manifest.layers
        if layer.foreign and client.head_blob(image.name, layer.digest) is None
    ]
    if missing:
        raise _Unseen(
            f"{len(missing)} of its layers are stored elsewhere (non-distributable), such as {missing[0]}, so they "
            "can't be scanned. Push the image with these layers, or leave its platform out with "
            "`platforms: {ship: […]}` in the chain's scan section"
        )


def _listed(image: ImageRef, client: RegistryClient, manifest: Manifest) -> list[str]:
    """Return the config's list of layers, the digests of the unpacked tars; it must be as long as the manifest's."""
    what = f"config of {image.name}@{image.digest}"
    try:
        config = json_fields.load_object(
            client.get_blob(image.name, manifest.config.digest, MAX_CONFIG), what
        )
        listed = json_fields.rows(
            json_fields.table(config, "rootfs", what) or {}, "diff_ids", what, limit=MAX_ENTRIES
        )
    except ProtocolViolation as error:
        raise _Unseen(str(error)) from error
    if len(listed) != len(manifest.layers):
        raise _Unseen(
            f"its config lists {len(listed)} layers, its manifest {len(manifest.layers)}. Build it again"
        )
    return [str(diff_id) for diff_id in listed]
