"""Looks at the files of an image whose operating system an engine does not name: is there more than static programs?"""

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
    """Add what the image holds beside what an engine looked at.

    Args:
        scanned: What the engine looked at; it names no operating system.
        registry: Where the image is.
        name: Repository.
        manifest: The image.
        deadline: Point on the clock of `time.monotonic()`, seconds.

    Returns:
        With a gap where there is more than static programs, or where the files can't be listed.

    Raises:
        RegistryError: A layer could not be read; see its subclasses for what may be retried.
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
