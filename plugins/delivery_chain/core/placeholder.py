"""The tiny manifest that a tag holds for a moment while it is deleted, where a registry deletes by digest alone. Pure.

Registries tell of it as of any push; so its digest has to be known to whoever hears of pushes.
"""

from __future__ import annotations

import json

from delivery_chain.core.names.reference import sha256_digest

DELETED_TAG = "application/vnd.delivery-chain.deleted-tag.v1"
"""Artifact type of stand-ins."""
_EMPTY = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": sha256_digest(b"{}"), "size": 2}


def stand_in(tag: str) -> bytes:
    """The manifest: the tag's name makes it unique, so no other tag can share its digest and go with it."""
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
    """What `tag` stands for while it is deleted by its stand-in."""
    return sha256_digest(stand_in(tag))
