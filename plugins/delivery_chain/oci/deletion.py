"""Delete a single tag, even at registries that delete by digest only.

First try to delete the tag by name (OCI distribution spec 1.1; Harbor, GitLab, zot and others). If the registry
can't (docker-registry 2, for one), put a tiny manifest unique to the tag, its *stand-in*, under the tag and delete
that manifest's digest. Before a stand-in touches any tag, the registry must have deleted the same manifest once while
untagged: if deletes are disabled, or the login may not delete, no tag changes.

Registries have no compare-and-set. The tag is checked right before the stand-in is put, and left alone if it moved. If
another client pushes the tag in the milliseconds between, that push loses its tag, but not its image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.core.placeholder import DELETED_TAG, deleted_tag_digest, stand_in
from delivery_chain.errors import NotFound, ProtocolViolation, RegistryError
from delivery_chain.oci.copy.tag import put_tag
from delivery_chain.oci.manifest import EMPTY_BLOB, OCI_MANIFEST

if TYPE_CHECKING:
    from delivery_chain.oci.client import RegistryClient


def delete_tag(client: RegistryClient, name: str, tag: str, digest: str = "") -> bool:
    """Delete one tag; the manifest and its other tags stay. Succeeds if the tag does not exist.

    If interrupted at any request, the tag is unchanged, points at its stand-in, or is deleted; the next call finishes.

    Args:
        client: The registry.
        name: Repository.
        tag: The tag.
        digest: Digest that the tag is expected to point at; a tag that has moved is left alone. Empty for any.

    Returns:
        Whether the tag no longer exists.

    Raises:
        DeletesDisabled, Unauthorized, TagConflict: The registry does not allow it. The tag is unchanged.
        RegistryError: A request failed. Retryable if its class says so.
    """
    held = client.head_digest(name, tag)
    if held is None:
        return True
    mark = deleted_tag_digest(tag)
    if held != mark:
        if digest and held != digest:
            return False
        if client.delete_by_tag(name, tag):
            return True
        _prove_deletes(client, name, tag)
        if client.head_digest(name, tag) != held:
            return False
        client.put_manifest(name, tag, stand_in(tag), OCI_MANIFEST)
    try:
        client.delete_manifest(name, mark)
    except RegistryError as error:
        if held != mark and not error.retryable:
            put_tag(client, name, tag, held)
        raise
    return True


def _prove_deletes(client: RegistryClient, name: str, tag: str) -> None:
    """Prove that the registry deletes manifests, by deleting the tag's stand-in while untagged. Once per repository."""
    if name in client.deletes_in:
        return
    digest, raw = deleted_tag_digest(tag), stand_in(tag)
    # The stand-in is not stored yet: a registry with deletes disabled says so here, before anything is written to it.
    client.delete_manifest(name, digest)
    client.put_blob_bytes(name, EMPTY_BLOB)
    client.put_manifest(name, digest, raw, OCI_MANIFEST)
    client.delete_manifest(name, digest)
    client.deletes_in.add(name)


def is_stand_in(client: RegistryClient, name: str, ref: str) -> bool:
    """Whether a tag or digest is the stand-in of a deletion, whichever tag was being deleted."""
    try:
        return client.get_manifest(name, ref).artifact_type == DELETED_TAG
    except (NotFound, ProtocolViolation):
        return False
