"""Addresses that a registry may redirect the client to, and what the client sends there."""

from __future__ import annotations

import pytest

from delivery_chain.core.names.reference import sha256_digest
from delivery_chain.errors import ProtocolViolation
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.manifest import build_index
from support.oci_registry import PASSWORD, USER
from support.oci_scripted import Script, scripted_registry

pytestmark = pytest.mark.integration
RAW = build_index(())
DIGEST = sha256_digest(RAW)
BLOB = b"0123456789"


def test_a_blob_is_followed_to_where_it_lies_without_the_login(oci_script: Script) -> None:
    """A redirect is followed, with the login within the registry, and without it elsewhere."""
    with scripted_registry(username=USER, password=PASSWORD) as script:
        digest = sha256_digest(BLOB)
        script.say("GET", "/v2/a/blobs/.*", 401, headers={"WWW-Authenticate": "Basic realm=r"}, times=1)
        script.say("GET", "/v2/a/blobs/.*", 307, headers={"Location": "/near"})
        script.say("GET", "/near", 302, headers={"Location": f"http://{oci_script.registry.host}/far?sig=x"})
        oci_script.say("GET", r"/far\?sig=x", body=BLOB)
        with RegistryClient(script.registry) as client:
            assert client.get_blob("a", digest) == BLOB

    assert [bool(one.authorization) for one in script.seen] == [False, True, True]
    assert [one.authorization for one in oci_script.seen] == [""]


REDIRECTS = {
    "without end": "/v2/a/blobs/again",
    "to metadata": "https://169.254.169.254/x",
    "to another plain host": "http://203.0.113.9/x",
    "to a file": "file:///etc/passwd",
    "to nowhere": "",
}


@pytest.mark.parametrize("target", REDIRECTS.values(), ids=REDIRECTS)
def test_bad_redirects_are_not_followed(oci_script: Script, target: str) -> None:
    """A registry can't send the client in circles, or to forbidden addresses."""
    oci_script.say("GET", "/v2/a/blobs/.*", 307, headers={"Location": target})

    with RegistryClient(oci_script.registry) as client, pytest.raises(ProtocolViolation):
        client.get_blob("a", DIGEST)

    assert len(oci_script.seen) <= 6


UPLOADS = {
    "missing": {},
    "elsewhere": {"Location": "http://203.0.113.9/u"},
    "metadata": {"Location": "https://169.254.169.254/u"},
}


@pytest.mark.parametrize("headers", UPLOADS.values(), ids=UPLOADS)
def test_bad_upload_locations_get_nothing(oci_script: Script, headers: dict[str, str]) -> None:
    """A blob is sent only to an address that the registry may name."""
    oci_script.say("POST", ".*", 202, headers=headers)

    with RegistryClient(oci_script.registry) as client, pytest.raises(ProtocolViolation):
        client.put_blob_bytes("a", BLOB)
