"""Lists of tags, repositories and referrers: all pages, checked and limited."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import pytest

from delivery_chain.core.names.reference import sha256_digest
from delivery_chain.errors import ProtocolViolation, RegistryError, RegistryUnreachable
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.manifest import build_index

if TYPE_CHECKING:
    from support.oci_scripted import Script

pytestmark = pytest.mark.integration
RAW = build_index(())
DIGEST = sha256_digest(RAW)

LISTS: dict[str, tuple[bytes, str]] = {
    "a number": (b'{"tags":[1]}', "expected names"),
    "no tag": (b'{"tags":["-v"]}', "tag '-v'"),
    "no list": (b'{"tags":{}}', "expected a list"),
    "no JSON": (b"x", "JSON object"),
    "too many": (b'{"tags":[' + b'"a",' * 100_000 + b'"a"]}', "at most 100000"),
}


@pytest.mark.parametrize(("body", "message"), LISTS.values(), ids=LISTS)
def test_wrong_lists_are_refused(oci_script: Script, body: bytes, message: str) -> None:
    """A list of tags may contain only tags, and not too many."""
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
    """Headers that name another next page each time."""

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


BOUNDS: dict[str, tuple[str, int, type[RegistryError], str, int]] = {
    "pages": ("MAX_PAGES", 5, ProtocolViolation, "at most 5 pages", 5),
    "seconds": ("LIST_SECONDS", 0, RegistryUnreachable, "found it unfinished after 1 pages", 1),
}


@pytest.mark.parametrize("case", ENDLESS.values(), ids=ENDLESS)
@pytest.mark.parametrize("bound", BOUNDS.values(), ids=BOUNDS)
def test_a_list_without_end_ends(
    oci_script: Script,
    monkeypatch: pytest.MonkeyPatch,
    bound: tuple[str, int, type[RegistryError], str, int],
    case: tuple[str, bytes, Callable[[RegistryClient], object]],
) -> None:
    """A registry that always has one more page is rejected; slow pages may be faster at the next try."""
    path, body, ask = case
    name, most, error, message, pages = bound
    monkeypatch.setattr(f"delivery_chain.oci.http.session.{name}", most)
    oci_script.say("GET", rf"{path}(\?.*)?", headers=_Endless(path), body=body)

    with RegistryClient(oci_script.registry) as client, pytest.raises(error, match=message):
        ask(client)

    assert len(oci_script.seen) == pages
