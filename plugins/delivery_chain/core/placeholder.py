"""Tiny manifest that a tag is moved to just before its deletion, at registries that delete only by digest. Pure.

Deleting the tag's own digest would delete its image as well, and every other tag of it. Registries send events for this
stand-in as for any push, so receivers of events need to know its digest.
"""

from __future__ import annotations

import json

from delivery_chain.core.names.reference import sha256_digest

DELETED_TAG = "application/vnd.delivery-chain.deleted-tag.v1"
"""Artifact type of stand-ins."""
_EMPTY = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": sha256_digest(b"{}"), "size": 2}


def stand_in(tag: str) -> bytes:
    """Build the manifest. The tag's name makes its digest unique, so that deleting it deletes no other tag."""
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
    """Digest of the stand-in of `tag`."""
    return sha256_digest(stand_in(tag))
