"""The one image that Trivy is given: by digest, after a look at whether Trivy would see all of it.

Trivy goes by the config's list of layers, not by the manifest's, reads equal entries once, and fetches what the
registry lacks from addresses that whoever pushed the image wrote. Podman unpacks what the manifest says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.core.reference import Reference
from delivery_chain.errors import ProtocolViolation, ScanFailed
from delivery_chain.oci import fields
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.manifest import MAX_ENTRIES, Index
from delivery_chain.oci.proofs import MAX_CONFIG

if TYPE_CHECKING:
    from delivery_chain.oci.manifest import Manifest
    from delivery_chain.tools.engines import ScanRequest

EMPTY_LAYER = 64
"""Bytes of a packed layer that can hold no file: different packers make different ones of the same empty archive."""


def image_to_scan(request: ScanRequest) -> tuple[Reference, Manifest]:
    """The image that a request is about, and its manifest.

    Asked for with our own client, so that a wrong login has its own error.

    Raises:
        ScanFailed: It is an index, or Trivy would not see all of its layers. Not retryable.
        RegistryError: It can't be read.
    """
    with RegistryClient(request.registry) as client:
        manifest = client.get_manifest(request.name, request.digest)
        if isinstance(manifest, Index):
            raise _refused(
                request, "expected one image, found an index of several; scan each by its own digest"
            )
        _check_present(request, client, manifest)
        _check_layers(request, client, manifest)
    return Reference(host=request.registry.host, name=request.name, digest=request.digest), manifest


def _check_present(request: ScanRequest, client: RegistryClient, manifest: Manifest) -> None:
    """Refuse layers that are kept elsewhere: nobody has looked at them."""
    missing = [
        layer.digest
        for layer in manifest.layers
        if layer.foreign and client.head_blob(request.name, layer.digest) is None
    ]
    if missing:
        raise _refused(
            request,
            f"{len(missing)} of its layers are kept elsewhere (non-distributable), such as {missing[0]}, so they can't "
            "be looked at. Push the image with these layers, or leave its platform out with "
            "`platforms: {ship: […]}` in the chain's scan section",
        )


def _check_layers(request: ScanRequest, client: RegistryClient, manifest: Manifest) -> None:
    """Refuse a config that lists other layers than the manifest."""
    what = f"config of {request.name}@{request.digest}"
    try:
        config = fields.load_object(client.get_blob(request.name, manifest.config.digest, MAX_CONFIG), what)
        listed = fields.rows(fields.table(config, "rootfs", what) or {}, "diff_ids", what, limit=MAX_ENTRIES)
    except ProtocolViolation as error:
        raise _refused(request, str(error)) from error
    if len(listed) != len(manifest.layers):
        raise _refused(
            request,
            f"its config lists {len(listed)} layers, its manifest {len(manifest.layers)}. Build it again",
        )
    seen: dict[str, str] = {}
    for named, layer in zip(listed, manifest.layers, strict=True):
        known = seen.setdefault(str(named), layer.digest)
        if known != layer.digest and layer.size > EMPTY_LAYER:
            raise _refused(
                request,
                f"its config takes {known} and {layer.digest} for the same layer, so one of them would not be "
                "looked at. Build it again",
            )


def _refused(request: ScanRequest, problem: str) -> ScanFailed:
    return ScanFailed(
        f"scan of {request.name}@{request.digest} for {request.platform}: {problem}", tool="trivy"
    )
