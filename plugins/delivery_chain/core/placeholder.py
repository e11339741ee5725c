"""Tiny manifest that a tag points at briefly while it is deleted at a registry that deletes only by digest. Pure.

Registries send events for it as for any push, so receivers of events need to know its digest.
"""

from __future__ import annotations

import json

from delivery_chain.core.names.reference import sha256_digest

DELETED_TAG = "application/vnd.delivery-chain.deleted-tag.v1"
"""Artifact type of stand-ins."""
_EMPTY = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": sha256_digest(b"{}"), "size": 2}


def stand_in(tag: str) -> bytes:
    """Build the manifest; the tag's name makes it unique, so that no other tag shares its digest and is deleted too."""
    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": DELETED_TAG,
        "config": _EMPTY,
        "layers": [_EMPTY],
        "annotations": {"org.opencontainers.image.ref.name": tag},
    }
    return json.dumps(document, separators=(",", ":")).encode()


def deleted_tag_digest(tag: str) -> str:
    """Digest of `tag` while it is being deleted by its stand-in."""
    return sha256_digest(stand_in(tag))
