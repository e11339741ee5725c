"""Deleting one tag and nothing else, also where a registry deletes by digest alone.

A tag is first asked to go by its name (OCI distribution spec 1.1; Harbor, GitLab, zot and others). Where the registry
can't (docker-registry 2 among them), a tiny manifest of the tag's own, its *stand-in*, is put under the tag, and then
that one's digest deleted. Before a stand-in touches a tag, the registry has deleted the same manifest once without a
tag: where deletes are off, or the login may not delete, every tag stays as it is.

Registries have no compare-and-set. A tag is looked at right before its stand-in is put, and one that moved is left
alone; who pushes in the milliseconds between loses the tag, not the image.
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
    """Delete one tag; the manifest and its other tags stay. A missing tag is fine.

    Cut short at any request, the tag is as it was, holds its stand-in, or is gone; the next call ends the job.

    Args:
        client: The registry.
        name: Repository.
        tag: The tag.
        digest: What it has to point at; a tag that was moved elsewhere is left alone. Empty for whatever it is.

    Returns:
        Whether the tag is gone.

    Raises:
        DeletesDisabled, Unauthorized, TagConflict: The registry does not let it go. The tag is as it was.
        RegistryError: Retryable where its class says so.
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
    """Let the registry delete the tag's stand-in while no tag holds it, once for each repository."""
    if name in client.deletes_in:
        return
    digest, raw = deleted_tag_digest(tag), stand_in(tag)
    # It is not there: a registry that deletes nothing says so, and has nothing written to it.
    client.delete_manifest(name, digest)
    client.put_blob_bytes(name, EMPTY_BLOB)
    client.put_manifest(name, digest, raw, OCI_MANIFEST)
    client.delete_manifest(name, digest)
    client.deletes_in.add(name)


def is_stand_in(client: RegistryClient, name: str, ref: str) -> bool:
    """Whether a tag or digest is the chain's own mark of a deletion, whichever tag it was made for."""
    try:
        return client.get_manifest(name, ref).artifact_type == DELETED_TAG
    except (NotFound, ProtocolViolation):
        return False
