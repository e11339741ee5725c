"""Drop platforms from an index. The remaining images stay byte for byte as pushed, with the same digests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from delivery_chain.oci import json_fields
from delivery_chain.oci.manifest import INDEX_TYPES, Index
from delivery_chain.oci.non_images import REFERENCE_DIGEST

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from delivery_chain.oci.manifest import AnyManifest, Descriptor


def without_the_rest(
    index: Index, fetch: Callable[[str], AnyManifest], images: Collection[str], others: Collection[str]
) -> bytes:
    """Build an index of the kept images and their attestations; return the original bytes if nothing is dropped.

    Args:
        index: The index as pushed; nested indexes are flattened.
        fetch: Returns the manifest of a digest.
        images: Digests of the images to keep.
        others: Digests proven not to be images. Those that describe a kept image are kept, too.

    Returns:
        Bytes of an index of the same media type. Equal arguments give equal bytes.
    """
    entries = list(_leaves(index, fetch))
    kept = [
        entry
        for entry, child in entries
        if child.digest in images
        or (child.digest in others and child.annotations.get(REFERENCE_DIGEST) in images)
    ]
    if len(kept) == len(entries):
        return index.raw
    document = json_fields.load_object(index.raw, f"manifest {index.digest}") | {"manifests": kept}
    return json.dumps(document, separators=(",", ":")).encode()


def _leaves(index: Index, fetch: Callable[[str], AnyManifest]) -> Iterator[tuple[dict[str, Any], Descriptor]]:
    """Yield every child that is not an index, both as written and as parsed."""
    written = json_fields.load_object(index.raw, f"manifest {index.digest}")["manifests"]
    for entry, child in zip(written, index.children, strict=True):
        below = fetch(child.digest) if child.media_type in INDEX_TYPES else None
        if isinstance(below, Index):
            yield from _leaves(below, fetch)
        else:
            yield entry, child
