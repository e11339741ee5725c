"""The client's verbs against a real docker-registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from delivery_chain.core.names.reference import sha256_digest
from delivery_chain.errors import ContentMismatch, InvalidReference, NotFound, ProtocolViolation
from delivery_chain.oci.copy.api import put_tag
from delivery_chain.oci.manifest import (
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    build_index,
)
from support.oci_images import noise, push_image

if TYPE_CHECKING:
    from collections.abc import Callable

    from delivery_chain.oci.client import RegistryClient

pytestmark = pytest.mark.integration
ABSENT = "sha256:" + "0" * 64


def test_a_registry_answers(oci_client: RegistryClient) -> None:
    """A ping of a registry succeeds."""
    oci_client.ping()


def test_a_blob_comes_back_as_it_went(oci_client: RegistryClient, oci_repository: str) -> None:
    """A blob of several pieces is stored, has its size, and can be read whole or from any offset."""
    content = noise(7, 3_500_000)

    stored = oci_client.put_blob_bytes(oci_repository, content)

    assert stored == Descriptor("application/octet-stream", sha256_digest(content), len(content))
    assert oci_client.head_blob(oci_repository, stored.digest) == len(content)
    assert oci_client.get_blob(oci_repository, stored.digest) == content
    with oci_client.read_blob(oci_repository, stored.digest, stored.size, 3_000_000) as rest:
        assert rest.read(500_000) == content[3_000_000:]


def test_an_empty_blob_is_a_blob(oci_client: RegistryClient, oci_repository: str) -> None:
    """Zero bytes can be stored and read."""
    stored = oci_client.put_blob_bytes(oci_repository, b"")

    assert oci_client.get_blob(oci_repository, stored.digest) == b""


def test_wrong_bytes_are_not_stored(oci_client: RegistryClient, oci_repository: str) -> None:
    """The registry rejects bytes that don't match the digest, and stores nothing."""
    digest = sha256_digest(b"right")
    location = oci_client.begin_upload(oci_repository, digest)
    upload = oci_client.open_upload(oci_repository, str(location), digest, 5)

    assert upload.write(memoryview(b"wrong"))
    with pytest.raises(ContentMismatch, match="DIGEST_INVALID"):
        oci_client.close_upload(upload, oci_repository, digest)

    assert oci_client.head_blob(oci_repository, digest) is None


def test_a_blob_larger_than_allowed_is_not_read(oci_client: RegistryClient, oci_repository: str) -> None:
    """`max_bytes` limits what is read into memory."""
    stored = oci_client.put_blob_bytes(oci_repository, b"12345")

    with pytest.raises(ProtocolViolation, match="at most 4 bytes"):
        oci_client.get_blob(oci_repository, stored.digest, max_bytes=4)


def test_a_blob_is_mounted_from_its_repository(oci_client: RegistryClient, oci_repository: str) -> None:
    """An existing blob is mounted; for a missing one, an upload is opened, and a cancelled upload ends."""
    stored = oci_client.put_blob_bytes(oci_repository, b"shared")

    other = f"{oci_repository}/other"
    assert oci_client.begin_upload(other, stored.digest, oci_repository) is None
    assert oci_client.get_blob(other, stored.digest) == b"shared"
    location = oci_client.begin_upload(other, ABSENT, oci_repository)
    assert location is not None
    oci_client.cancel_upload(other, location)
    assert oci_client.upload_offset(other, location) == 0


def test_a_manifest_is_had_by_tag_and_by_digest(oci_client: RegistryClient, oci_repository: str) -> None:
    """Both return the same bytes, and HEAD the same descriptor."""
    image = push_image(oci_client, oci_repository)
    put_tag(oci_client, oci_repository, "v1", image.digest)

    by_tag = oci_client.get_manifest(oci_repository, "v1")

    assert by_tag == oci_client.get_manifest(oci_repository, image.digest)
    assert by_tag.digest == image.digest
    head = Descriptor(OCI_MANIFEST, image.digest, len(by_tag.raw))
    assert oci_client.head_manifest(oci_repository, "v1") == head
    assert oci_client.head_manifest(oci_repository, image.digest) == head


def test_what_is_not_there_is_none_to_head(oci_client: RegistryClient, oci_repository: str) -> None:
    """HEAD of a missing manifest, blob or repository returns None, without an error."""
    assert oci_client.head_manifest(oci_repository, "v1") is None
    assert oci_client.head_manifest(oci_repository, ABSENT) is None
    assert oci_client.head_blob(oci_repository, ABSENT) is None


MISSING: dict[str, Callable[[RegistryClient, str], object]] = {
    "manifest": lambda client, name: client.get_manifest(name, "v1"),
    "blob": lambda client, name: client.get_blob(name, ABSENT),
    "rest of a blob": lambda client, name: client.read_blob(name, ABSENT, 10, 5),
    "tags": lambda client, name: client.list_tags(name),
    "parts of a manifest": lambda client, name: client.put_manifest(
        name, "v1", build_index([Descriptor(OCI_MANIFEST, ABSENT, 2)]), OCI_INDEX
    ),
    "tag's manifest": lambda client, name: put_tag(client, name, "v1", ABSENT),
}


@pytest.mark.parametrize("ask", MISSING.values(), ids=MISSING)
def test_what_is_not_there_is_not_found(
    oci_client: RegistryClient, oci_repository: str, ask: Callable[[RegistryClient, str], object]
) -> None:
    """Reading what a registry lacks raises NotFound."""
    with pytest.raises(NotFound):
        ask(oci_client, oci_repository)


def test_a_manifest_under_another_digest_is_not_sent(oci_client: RegistryClient, oci_repository: str) -> None:
    """Bytes are only put under their own digest."""
    with pytest.raises(ContentMismatch):
        oci_client.put_manifest(oci_repository, ABSENT, build_index(()), OCI_INDEX)


@pytest.mark.parametrize("name", ["../_catalog", "A", "a//b", "a?x=y", "-a", "a\n"])
def test_a_name_that_is_none_is_not_sent(oci_client: RegistryClient, name: str) -> None:
    """A repository name can't turn into another path."""
    with pytest.raises(InvalidReference):
        oci_client.get_manifest(name, "v1")


def test_tags_and_repositories_are_listed(oci_client: RegistryClient, oci_repository: str) -> None:
    """Lists contain what was pushed, limited by the prefix."""
    image = push_image(oci_client, f"{oci_repository}/a")
    push_image(oci_client, f"{oci_repository}/b")
    for tag in ("v2", "v1"):
        put_tag(oci_client, f"{oci_repository}/a", tag, image.digest)

    assert sorted(oci_client.list_tags(f"{oci_repository}/a")) == ["v1", "v2"]
    assert oci_client.list_repositories(f"{oci_repository}/") == (
        f"{oci_repository}/a",
        f"{oci_repository}/b",
    )


def test_a_deleted_tag_leaves_its_image_alone(oci_client: RegistryClient, oci_repository: str) -> None:
    """Only that tag is deleted: the digest, its other tags and its blobs stay. Deleting twice is fine."""
    image = push_image(oci_client, oci_repository)
    for tag in ("keep", "drop"):
        put_tag(oci_client, oci_repository, tag, image.digest)

    for _ in range(2):
        oci_client.delete_tag(oci_repository, "drop")

    assert oci_client.list_tags(oci_repository) == ("keep",)
    assert oci_client.head_manifest(oci_repository, "drop") is None
    assert oci_client.get_manifest(oci_repository, "keep").digest == image.digest


def test_a_deleted_tag_can_come_back_and_go_again(oci_client: RegistryClient, oci_repository: str) -> None:
    """The stand-in of one deletion does not interfere with the next."""
    image = push_image(oci_client, oci_repository)
    for _ in range(2):
        put_tag(oci_client, oci_repository, "v1", image.digest)
        oci_client.delete_tag(oci_repository, "v1")

        assert oci_client.head_manifest(oci_repository, "v1") is None
        assert oci_client.head_manifest(oci_repository, image.digest) is not None


def test_a_deleted_manifest_takes_its_tags_along(oci_client: RegistryClient, oci_repository: str) -> None:
    """Deletion by digest removes the whole image. Deleting twice is fine."""
    image = push_image(oci_client, oci_repository)
    put_tag(oci_client, oci_repository, "v1", image.digest)

    for _ in range(2):
        oci_client.delete_manifest(oci_repository, image.digest)

    assert oci_client.head_manifest(oci_repository, "v1") is None
