"""Registries that refuse or lie: each fault results in one error, with its wait and advice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from delivery_chain.core.names.reference import sha256_digest
from delivery_chain.errors import (
    ContentMismatch,
    NotFound,
    ProtocolViolation,
    RegistryBusy,
    RegistryError,
    RegistryFailure,
    TagConflict,
    Unauthorized,
)
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.manifest import OCI_INDEX, build_index

if TYPE_CHECKING:
    from support.oci_scripted import Script

pytestmark = pytest.mark.integration
RAW = build_index(())
DIGEST = sha256_digest(RAW)
MANIFEST = "/v2/a/manifests/.*"
BLOB = b"0123456789"

REFUSALS: dict[str, tuple[int, dict[str, str], type[RegistryError], bool, float | None]] = {
    "403": (403, {}, Unauthorized, False, None),
    "404": (404, {}, NotFound, False, None),
    "429": (429, {"Retry-After": "7"}, RegistryBusy, True, 7.0),
    "429 without a wait": (429, {}, RegistryBusy, True, None),
    "503": (503, {"Retry-After": "9"}, RegistryBusy, True, 9.0),
    "500": (500, {}, RegistryFailure, True, None),
    "418": (418, {}, RegistryError, False, None),
    "a redirect of a manifest": (307, {"Location": "/elsewhere"}, ProtocolViolation, False, None),
}


@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_is_one_error(
    oci_script: Script,
    case: tuple[int, dict[str, str], type[RegistryError], bool, float | None],
) -> None:
    """Status and headers decide the error, whether a retry helps, and when."""
    status, headers, kind, retryable, wait = case
    oci_script.say("GET", MANIFEST, status, headers=headers)

    with RegistryClient(oci_script.registry) as client, pytest.raises(RegistryError) as caught:
        client.get_manifest("a", "v1")

    error = caught.value
    assert (type(error), error.retryable, error.retry_after) == (kind, retryable, wait)
    assert (error.status, error.method) == (status, "GET")


WRONG: dict[str, tuple[bytes, str, dict[str, str], str, type[RegistryError]]] = {
    "other bytes than the digest": (RAW, OCI_INDEX, {}, "sha256:" + "0" * 64, ContentMismatch),
    "other bytes than it says": (
        RAW,
        OCI_INDEX,
        {"Docker-Content-Digest": "sha256:" + "0" * 64},
        "v1",
        ContentMismatch,
    ),
    "a digest that is none": (RAW, OCI_INDEX, {"Docker-Content-Digest": "md5:1"}, "v1", ProtocolViolation),
    "a login page": (b"<html>", "text/html", {}, "v1", ProtocolViolation),
    "larger than a manifest": (b" " * (4 * 1024 * 1024 + 1), OCI_INDEX, {}, "v1", ProtocolViolation),
}


@pytest.mark.parametrize("case", WRONG.values(), ids=WRONG)
def test_a_wrong_manifest_is_not_believed(
    oci_script: Script, case: tuple[bytes, str, dict[str, str], str, type[RegistryError]]
) -> None:
    """A manifest has to match the request, and the registry's own digest header."""
    body, kind, headers, ref, error = case
    oci_script.say_manifest("a", ref, body, kind, **headers)

    with RegistryClient(oci_script.registry) as client, pytest.raises(error):
        client.get_manifest("a", ref)


def test_a_head_without_a_digest_is_looked_up(oci_script: Script) -> None:
    """If HEAD omits the digest, the manifest itself is requested."""
    oci_script.say_manifest("a", "v1", RAW, OCI_INDEX)

    with RegistryClient(oci_script.registry) as client:
        found = client.head_manifest("a", "v1")

    assert found is not None
    assert (found.digest, found.size) == (DIGEST, len(RAW))


def test_a_head_about_another_digest_is_refused(oci_script: Script) -> None:
    """A response for another manifest is rejected."""
    oci_script.say_manifest("a", DIGEST, RAW, OCI_INDEX, **{"Docker-Content-Digest": "sha256:" + "0" * 64})

    with RegistryClient(oci_script.registry) as client, pytest.raises(ContentMismatch, match="answered with"):
        client.head_manifest("a", DIGEST)


def test_an_immutable_tag_is_a_conflict(oci_script: Script) -> None:
    """A registry that protects a tag results in TAG_CONFLICT, also for a delete."""
    body = b'{"errors":[{"code":"DENIED","message":"tag v1 is immutable"}]}'
    oci_script.say("(PUT|DELETE)", MANIFEST, 403, body=body)
    oci_script.say_manifest("a", "v1", RAW, OCI_INDEX)

    with RegistryClient(oci_script.registry) as client:
        with pytest.raises(TagConflict, match="TAG_CONFLICT"):
            client.put_manifest("a", "v1", RAW, OCI_INDEX)
        with pytest.raises(TagConflict, match="TAG_CONFLICT"):
            client.delete_tag("a", "v1")

    assert len(oci_script.paths("PUT")) == 1


def test_a_tag_is_deleted_by_its_name_where_that_works(oci_script: Script) -> None:
    """If a registry deletes by tag, no stand-in is used."""
    oci_script.say(
        "HEAD", MANIFEST, headers={"Content-Type": OCI_INDEX, "Docker-Content-Digest": DIGEST}, times=1
    )
    oci_script.say("DELETE", "/v2/a/manifests/v1", 202)

    with RegistryClient(oci_script.registry) as client:
        client.delete_tag("a", "v1")

    assert [one.method for one in oci_script.seen] == ["HEAD", "DELETE", "HEAD"]


def test_an_early_refusal_of_an_upload_is_heard(oci_script: Script) -> None:
    """The error of a registry that refuses before it has read the blob quotes the response."""
    oci_script.say("POST", ".*", 202, headers={"Location": "/u"})
    oci_script.say("PUT", "/u.*", 403, body=b'{"errors":[{"code":"DENIED","message":"quota"}]}')

    with RegistryClient(oci_script.registry) as client, pytest.raises(Unauthorized, match="quota"):
        client.put_blob_bytes("a", BLOB)
