"""List and attach referrers: reports, SBOMs and signatures that name an image as their subject.

Registries with the referrers API maintain the list; at others it is an index under the tag `sha256-<hex>`, which
the client that pushes a referrer has to update.

Source: OCI distribution spec 1.1, "Listing Referrers" and "Referrers Tag Schema".
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from delivery_chain.core.names.reference import check_digest
from delivery_chain.errors import ContentMismatch, NotFound, ProtocolViolation
from delivery_chain.oci.manifest import (
    EMPTY_BLOB,
    MAX_ENTRIES,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Index,
    build_artifact_manifest,
    build_index,
    parse_manifest,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from delivery_chain.oci.client import RegistryClient

ATTEMPTS = 5
"""Maximum writes of a fallback index before giving up on concurrent writers."""


def fallback_tag(digest: str) -> str:
    """Return the tag of the index that lists the referrers of `digest` at registries without the referrers API."""
    return check_digest(digest).replace(":", "-")[:128]


def list_referrers(
    client: RegistryClient, name: str, digest: str, *, artifact_type: str = ""
) -> tuple[Descriptor, ...]:
    """Return the referrers of a manifest, without duplicates, in the registry's order.

    Args:
        client: The registry.
        name: Repository.
        digest: The subject; it need not exist.
        artifact_type: Return only referrers of this type; empty for all.

    Returns:
        Descriptors with artifact type and annotations as listed. Not verified: fetch the manifest before trusting
        them.
    """
    found = client.referrers_api(name, digest)
    if found is None:
        found = fallback_referrers(client, name, digest)
    return tuple(entry for entry in once(found) if artifact_type in ("", entry.artifact_type))


def once(found: tuple[Descriptor, ...]) -> tuple[Descriptor, ...]:
    """Drop duplicate digests from a list; the first descriptor wins."""
    unique: dict[str, Descriptor] = {}
    for entry in found:
        unique.setdefault(entry.digest, entry)
    return tuple(unique.values())


def attach(  # the order is that of the manifest's parts
    client: RegistryClient,
    name: str,
    subject: Descriptor,
    artifact_type: str,
    blob: bytes,
    media_type: str,
    annotations: Mapping[str, str] | None = None,
) -> Descriptor:
    """Store `blob` as a referrer of `subject`. Idempotent: equal arguments give one entry.

    Args:
        client: The registry.
        name: Repository that holds `subject`.
        subject: The manifest that the referrer describes.
        artifact_type: Media type that says what the referrer is.
        blob: The referrer's content.
        media_type: Media type of `blob`.
        annotations: Annotations of the referrer's manifest. With a time among them, each call adds a new referrer.

    Returns:
        The referrer's descriptor, as listed.

    Raises:
        ContentMismatch: Concurrent writers kept overwriting the list. Retryable.
    """
    client.put_blob_bytes(name, EMPTY_BLOB)
    layer = replace(client.put_blob_bytes(name, blob), media_type=media_type)
    raw = build_artifact_manifest(artifact_type, subject, (layer,), annotations)
    entry = parse_manifest(raw, OCI_MANIFEST).descriptor()
    client.put_manifest(name, entry.digest, raw, OCI_MANIFEST)
    link(client, name, subject.digest, entry)
    return entry


def link(client: RegistryClient, name: str, subject: str, entry: Descriptor) -> None:
    """Ensure that the referrers of `subject` include `entry`, whose manifest is already stored.

    A registry with the referrers API has listed it already. Otherwise the fallback index is read, written and read
    again. Two concurrent writers can still lose an entry, since registries have no compare-and-set; to be certain,
    call this function again: it is idempotent.

    Raises:
        ContentMismatch: The entry was overwritten after each of five writes. Retryable.
        ProtocolViolation: The list is full, at 1000 entries.
    """
    if client.referrers_api(name, subject) is not None:
        return
    tag = fallback_tag(subject)
    for _ in range(ATTEMPTS):
        present = fallback_referrers(client, name, subject)
        if any(known.digest == entry.digest for known in present):
            return
        if len(present) >= MAX_ENTRIES:
            raise ProtocolViolation(
                f"referrers of {name}@{subject}: the list is full with {MAX_ENTRIES} entries"
            )
        client.put_manifest(name, tag, build_index((*present, entry)), OCI_INDEX)
    if not any(known.digest == entry.digest for known in fallback_referrers(client, name, subject)):
        raise ContentMismatch(
            f"referrers of {name}@{subject}: {entry.digest} was overwritten after each of {ATTEMPTS} writes. "
            "Another client keeps writing this list; a retry tries again"
        )


def fallback_referrers(client: RegistryClient, name: str, digest: str) -> tuple[Descriptor, ...]:
    """Return the referrers listed in the index under the fallback tag; empty if the tag does not exist."""
    tag = fallback_tag(digest)
    try:
        found = client.get_manifest(name, tag)
    except NotFound:
        return ()
    if not isinstance(found, Index):
        raise ProtocolViolation(
            f"referrers of {name}@{digest}: expected an index under the tag {tag}, found {found.media_type}. "
            "Delete that tag"
        )
    return found.children
