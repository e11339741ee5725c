"""Referrers are written and listed with the referrers API, and without."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from delivery_chain.errors import ContentMismatch, ProtocolViolation
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.manifest import OCI_INDEX, OCI_MANIFEST, Descriptor, Manifest, build_index
from delivery_chain.oci.referrers import attach, fallback_tag, link, list_referrers
from support.oci_images import push_image

if TYPE_CHECKING:
    from support.oci_scripted import Script

pytestmark = pytest.mark.integration
SUBJECT = "sha256:" + "a" * 64
ENTRY = Descriptor(OCI_MANIFEST, "sha256:" + "b" * 64, 9, "x/report")


def test_the_same_content_twice_is_one_entry(oci_client: RegistryClient, oci_repository: str) -> None:
    """Attaching is idempotent, and the entry has type and annotations."""
    image = push_image(oci_client, oci_repository)

    first = attach(oci_client, oci_repository, image, "x/report", b"{}", "application/json", {"k": "v"})
    again = attach(oci_client, oci_repository, image, "x/report", b"{}", "application/json", {"k": "v"})

    assert first == again
    assert (first.artifact_type, first.annotations) == ("x/report", {"k": "v"})
    assert list_referrers(oci_client, oci_repository, image.digest) == (first,)


def test_a_referrer_holds_its_blob_and_subject(oci_client: RegistryClient, oci_repository: str) -> None:
    """The stored manifest references the content and the image."""
    image = push_image(oci_client, oci_repository)
    entry = attach(oci_client, oci_repository, image, "x/report", b'{"a":1}', "application/json")

    stored = oci_client.get_manifest(oci_repository, entry.digest)

    assert isinstance(stored, Manifest)
    assert stored.subject == Descriptor(image.media_type, image.digest, image.size)
    assert stored.layers[0].media_type == "application/json"
    assert oci_client.get_blob(oci_repository, stored.layers[0].digest) == b'{"a":1}'


def test_referrers_are_listed_by_type(oci_client: RegistryClient, oci_repository: str) -> None:
    """Each attachment extends the list; a type filters it."""
    image = push_image(oci_client, oci_repository)
    report = attach(oci_client, oci_repository, image, "x/report", b"{}", "application/json")
    sbom = attach(oci_client, oci_repository, image, "x/sbom", b"{}", "application/json")

    assert list_referrers(oci_client, oci_repository, image.digest) == (report, sbom)
    assert list_referrers(oci_client, oci_repository, image.digest, artifact_type="x/sbom") == (sbom,)


def test_an_image_without_referrers_has_none(oci_client: RegistryClient, oci_repository: str) -> None:
    """Without a fallback tag, the list is empty, even if the repository does not exist."""
    assert list_referrers(oci_client, oci_repository, SUBJECT) == ()


def test_a_tag_that_is_no_index_is_refused(oci_client: RegistryClient, oci_repository: str) -> None:
    """An image under the fallback tag is not accepted as a list."""
    image = push_image(oci_client, oci_repository)
    raw = oci_client.get_manifest(oci_repository, image.digest).raw
    oci_client.put_manifest(oci_repository, fallback_tag(image.digest), raw, OCI_MANIFEST)

    with pytest.raises(ProtocolViolation, match="expected an index under the tag"):
        list_referrers(oci_client, oci_repository, image.digest)


def test_the_api_is_used_where_it_is(oci_script: Script) -> None:
    """A registry with the API returns its pages, each entry once, and no fallback tag is touched."""
    path = f"/v2/a/referrers/{SUBJECT}"
    page = json.loads(build_index((ENTRY,)))
    oci_script.say(
        "GET", path, headers={"Link": f'<{path}?page=2>; rel="next"'}, body=json.dumps(page).encode()
    )
    oci_script.say("GET", rf"{path}\?page=2", body=json.dumps(page).encode())

    with RegistryClient(oci_script.registry) as client:
        assert list_referrers(client, "a", SUBJECT) == (ENTRY,)
        link(client, "a", SUBJECT, ENTRY)

    assert {one.method for one in oci_script.seen} == {"GET"}
    assert not any("/manifests/" in one.path for one in oci_script.seen)


def test_pages_without_end_are_refused(oci_script: Script) -> None:
    """A list that links back to itself is rejected."""
    path = f"/v2/a/referrers/{SUBJECT}"
    oci_script.say("GET", path, headers={"Link": f'<{path}>; rel="next"'}, body=build_index(()))

    with RegistryClient(oci_script.registry) as client, pytest.raises(ProtocolViolation, match="one twice"):
        list_referrers(client, "a", SUBJECT)


def test_an_entry_that_others_overwrite_is_put_again(oci_script: Script) -> None:
    """A write that was lost to another writer is detected and repeated, at most five times."""
    tag = fallback_tag(SUBJECT)
    oci_script.say_manifest("a", tag, build_index(()), OCI_INDEX)
    oci_script.say("PUT", f"/v2/a/manifests/{tag}", 201)

    with (
        RegistryClient(oci_script.registry) as client,
        pytest.raises(ContentMismatch, match="after each of 5 writes"),
    ):
        link(client, "a", SUBJECT, ENTRY)

    assert len(oci_script.paths("PUT")) == 5
