"""Check whether an image without a recognized operating system contains more than static programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.core.gate.coverage import Coverage, Gap
from delivery_chain.core.gate.root_files import RootFiles
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.layer_files import Budget, LayerUnreadable, layer_entries

if TYPE_CHECKING:
    from delivery_chain.core.names.registry import Registry
    from delivery_chain.oci.manifest import Manifest


def with_root_files(
    scanned: Coverage, registry: Registry, name: str, manifest: Manifest, *, deadline: float
) -> Coverage:
    """Add to an engine's coverage what else the image contains.

    Args:
        scanned: The engine's coverage, which names no operating system.
        registry: The image's registry.
        name: Repository.
        manifest: The image's manifest.
        deadline: Time of `time.monotonic()`, seconds.

    Returns:
        The coverage, with a gap if the image contains more than static programs or its files can't be listed.

    Raises:
        RegistryError: A layer could not be read; its subclasses say whether to retry.
    """
    files = RootFiles()
    budget = Budget(deadline)
    with RegistryClient(registry) as client:
        try:
            for layer in reversed(manifest.layers):
                for entry in layer_entries(client, name, layer, budget):
                    files.see(entry)
                files.end_layer()
                if Gap.UNSUPPORTED_OS in files.found:
                    break
        except LayerUnreadable as error:
            root = f"files that could not be listed: {error}"
            return scanned.model_copy(update={"root": root, "gaps": (*scanned.gaps, Gap.UNIDENTIFIED)})
    return files.coverage(scanned)
