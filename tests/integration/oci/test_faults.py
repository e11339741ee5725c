"""Registries that refuse, lie or break off: each fault is one error, with its wait and its advice."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping

import pytest

from delivery_chain.core.names.reference import sha256_digest
from delivery_chain.core.names.registry import Registry
from delivery_chain.errors import (
    ConfigurationError,
    ContentMismatch,
    NotFound,
    ProtocolViolation,
    RegistryBusy,
    RegistryError,
    RegistryFailure,
    RegistryUnreachable,
    TagConflict,
    Unauthorized,
)
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.http.address_guard import Origin
from delivery_chain.oci.http.connector import Connector
from delivery_chain.oci.manifest import OCI_INDEX, build_index
from support.oci_registry import PASSWORD, USER, free_port
from support.oci_scripted import Script, scripted_registry

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
    """A manifest has to be what was asked for and what the registry says it is."""
    body, kind, headers, ref, error = case
    oci_script.say_manifest("a", ref, body, kind, **headers)

    with RegistryClient(oci_script.registry) as client, pytest.raises(error):
        client.get_manifest("a", ref)


def test_a_head_without_a_digest_is_looked_up(oci_script: Script) -> None:
    """Registries that leave the digest out of HEAD are asked for the manifest itself."""
    oci_script.say_manifest("a", "v1", RAW, OCI_INDEX)

    with RegistryClient(oci_script.registry) as client:
        found = client.head_manifest("a", "v1")

    assert found is not None
    assert (found.digest, found.size) == (DIGEST, len(RAW))


def test_a_head_about_another_digest_is_refused(oci_script: Script) -> None:
    """A registry that answers for another manifest is not believed."""
    oci_script.say_manifest("a", DIGEST, RAW, OCI_INDEX, **{"Docker-Content-Digest": "sha256:" + "0" * 64})

    with RegistryClient(oci_script.registry) as client, pytest.raises(ContentMismatch, match="answers with"):
        client.head_manifest("a", DIGEST)


def test_an_immutable_tag_is_a_conflict(oci_script: Script) -> None:
    """A registry that holds a tag fast gives TAG_CONFLICT, also when the tag shall go."""
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
    """A registry that deletes by tag gets no stand-in."""
    oci_script.say(
        "HEAD", MANIFEST, headers={"Content-Type": OCI_INDEX, "Docker-Content-Digest": DIGEST}, times=1
    )
    oci_script.say("DELETE", "/v2/a/manifests/v1", 202)

    with RegistryClient(oci_script.registry) as client:
        client.delete_tag("a", "v1")

    assert [one.method for one in oci_script.seen] == ["HEAD", "DELETE", "HEAD"]


def test_an_address_that_is_not_allowed_gets_no_request(oci_script: Script) -> None:
    """What a name leads to is looked at before it is connected to."""
    connector = Connector(Registry(host="registry.invalid", plain_http=True), timeout=5)

    with pytest.raises(ProtocolViolation, match=r"which is 127\.0\.0\.1: not allowed"):
        connector.open(Origin.parse(f"http://{oci_script.registry.host}"))

    assert oci_script.seen == []


def test_a_dead_port_is_unreachable() -> None:
    """Nobody there: the error is retryable and says what to check."""
    registry = Registry(host=f"127.0.0.1:{free_port()}", plain_http=True)
    with (
        RegistryClient(registry) as client,
        pytest.raises(RegistryUnreachable, match="Check that the registry runs"),
    ):
        client.ping()


def test_a_name_that_is_none_is_unreachable() -> None:
    """A host that has no address is unreachable, no traceback of the resolver."""
    with (
        RegistryClient(Registry(host="no-such-host.invalid", plain_http=True), timeout=5) as client,
        pytest.raises(RegistryUnreachable, match=r"no-such-host\.invalid"),
    ):
        client.ping()


SPEECH = {
    "silence": (b"", RegistryUnreachable),
    "closing": (None, RegistryUnreachable),
    "no HTTP": (b"SSH-2.0-OpenSSH\r\n\r\n", ProtocolViolation),
    "headers without end": (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200, ProtocolViolation),
    "half a body": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", RegistryUnreachable),
}


@pytest.mark.parametrize(("speech", "kind"), SPEECH.values(), ids=SPEECH)
def test_what_is_no_registry_is_found_out(speech: bytes | None, kind: type[RegistryError]) -> None:
    """Silence ends with the timeout, and nonsense at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        over = threading.Event()

        def speak() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                if speech is not None:
                    connection.sendall(speech)
                    over.wait(10)

        thread = threading.Thread(target=speak)
        thread.start()
        registry = Registry(host=f"127.0.0.1:{server.getsockname()[1]}", plain_http=True)
        with RegistryClient(registry, timeout=0.3) as client, pytest.raises(RegistryError) as caught:
            client.get_manifest("a", "v1")
        over.set()
        thread.join()

    assert type(caught.value) is kind


def test_a_connection_that_was_closed_meanwhile_is_opened_again() -> None:
    """A server may close a kept connection at any time; the next request does not fail of that."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(2):
                connection, _ = server.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        registry = Registry(host=f"127.0.0.1:{server.getsockname()[1]}", plain_http=True)
        with RegistryClient(registry, timeout=5) as client:
            client.ping()
            client.ping()
        thread.join()


def test_a_blob_is_followed_to_where_it_lies_without_the_login(oci_script: Script) -> None:
    """A redirect is followed, within the registry with the login, elsewhere without."""
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
    """A registry can't send the client round in circles or to where it has no business."""
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


LISTS: dict[str, tuple[bytes, str]] = {
    "a number": (b'{"tags":[1]}', "expected names"),
    "no tag": (b'{"tags":["-v"]}', "tag '-v'"),
    "no list": (b'{"tags":{}}', "expected a list"),
    "no JSON": (b"x", "JSON object"),
    "too many": (b'{"tags":[' + b'"a",' * 100_000 + b'"a"]}', "at most 100000"),
}


@pytest.mark.parametrize(("body", "message"), LISTS.values(), ids=LISTS)
def test_wrong_lists_are_refused(oci_script: Script, body: bytes, message: str) -> None:
    """A list of tags holds tags, and not too many."""
    oci_script.say("GET", "/v2/a/tags/list.*", body=body)

    with RegistryClient(oci_script.registry) as client, pytest.raises(ProtocolViolation, match=message):
        client.list_tags("a")


def test_all_pages_of_tags_are_read(oci_script: Script) -> None:
    """Pages are followed to the end, and an empty list may be null."""
    link = {"Link": '</v2/a/tags/list?last=b&n=2>; rel="next"'}
    oci_script.say("GET", r"/v2/a/tags/list\?n=1000", headers=link, body=b'{"tags":["a","b"]}')
    oci_script.say("GET", r"/v2/a/tags/list\?last=b&n=2", body=b'{"tags":["c","b"]}')
    oci_script.say("GET", "/v2/none/tags/list.*", body=b'{"tags":null}')

    with RegistryClient(oci_script.registry) as client:
        assert client.list_tags("a") == ("a", "b", "c")
        assert client.list_tags("none") == ()


class _Endless(Mapping[str, str]):
    """Headers with another next page each time."""

    def __init__(self, path: str) -> None:
        self.path, self.page = path, 0

    def __getitem__(self, key: str) -> str:
        self.page += 1
        return f'<{self.path}?page={self.page}>; rel="next"'

    def __iter__(self) -> Iterator[str]:
        return iter(("Link",))

    def __len__(self) -> int:
        return 1


ENDLESS: dict[str, tuple[str, bytes, Callable[[RegistryClient], object]]] = {
    "tags": ("/v2/a/tags/list", b'{"tags":["a"]}', lambda client: client.list_tags("a")),
    "tags, none a page": ("/v2/a/tags/list", b'{"tags":[]}', lambda client: client.list_tags("a")),
    "repositories": ("/v2/_catalog", b'{"repositories":["a"]}', lambda client: client.list_repositories()),
    "referrers": (
        f"/v2/a/referrers/{DIGEST}",
        build_index(()),
        lambda client: client.referrers_api("a", DIGEST),
    ),
}


@pytest.mark.parametrize("case", ENDLESS.values(), ids=ENDLESS)
def test_a_list_without_end_ends_after_so_many_pages(
    oci_script: Script,
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[str, bytes, Callable[[RegistryClient], object]],
) -> None:
    """A registry that always has one page more is no registry."""
    path, body, ask = case
    monkeypatch.setattr("delivery_chain.oci.http.session.MAX_PAGES", 5)
    oci_script.say("GET", rf"{path}(\?.*)?", headers=_Endless(path), body=body)

    with (
        RegistryClient(oci_script.registry) as client,
        pytest.raises(ProtocolViolation, match="at most 5 pages"),
    ):
        ask(client)

    assert len(oci_script.seen) == 5


@pytest.mark.parametrize("case", ENDLESS.values(), ids=ENDLESS)
def test_a_list_without_end_ends_after_some_time(
    oci_script: Script,
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[str, bytes, Callable[[RegistryClient], object]],
) -> None:
    """Slow pages, each within its timeout, are not followed for hours; another try may meet a faster registry."""
    path, body, ask = case
    monkeypatch.setattr("delivery_chain.oci.http.session.LIST_SECONDS", 0)
    oci_script.say("GET", rf"{path}(\?.*)?", headers=_Endless(path), body=body)

    with (
        RegistryClient(oci_script.registry) as client,
        pytest.raises(RegistryUnreachable, match="found it unfinished after 1 pages"),
    ):
        ask(client)

    assert len(oci_script.seen) == 1


def test_a_proxy_is_used_where_the_worker_has_one(
    oci_script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry elsewhere is asked through the proxy, with the proxy's login; this machine never is."""
    monkeypatch.setenv("http_proxy", f"http://me:p%40ss@{oci_script.registry.host}")
    monkeypatch.setenv("no_proxy", "direct.invalid")
    oci_script.say("GET", "http://registry.invalid/v2/")
    oci_script.say("GET", "/v2/")

    for host in ("registry.invalid", oci_script.registry.host):
        with RegistryClient(Registry(host=host, plain_http=True)) as client:
            client.ping()
    with (
        RegistryClient(Registry(host="direct.invalid", plain_http=True)) as client,
        pytest.raises(RegistryUnreachable),
    ):
        client.ping()

    assert oci_script.paths("GET") == ["http://registry.invalid/v2/", "/v2/"]


@pytest.mark.parametrize("proxy", ["https://proxy.test:1", "socks5://me:hunter2@proxy.test", "http://:1"])
def test_a_proxy_that_can_not_be_used_is_named(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    """A proxy setting of another form is the installation's fault, and its password stays hidden."""
    monkeypatch.setenv("http_proxy", proxy)
    with (
        RegistryClient(Registry(host="registry.invalid", plain_http=True)) as client,
        pytest.raises(ConfigurationError, match="HTTP_PROXY") as caught,
    ):
        client.ping()

    assert "hunter2" not in str(caught.value)


def test_an_early_refusal_of_an_upload_is_heard(oci_script: Script) -> None:
    """A registry that refuses before it has read the blob is quoted, not called unreachable."""
    oci_script.say("POST", ".*", 202, headers={"Location": "/u"})
    oci_script.say("PUT", "/u.*", 403, body=b'{"errors":[{"code":"DENIED","message":"quota"}]}')

    with RegistryClient(oci_script.registry) as client, pytest.raises(Unauthorized, match="quota"):
        client.put_blob_bytes("a", BLOB)
