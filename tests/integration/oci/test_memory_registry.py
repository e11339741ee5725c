"""The in-memory registry beyond docker-registry: options of other registries, and faults on request."""

from __future__ import annotations

from http.client import HTTPException
from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.core.names.reference import sha256_digest
from support.oci_memory import Fault, MemoryRegistry, memory_registry
from support.oci_talk import ABSENT, CONFIG, DATA, IMAGE, OTHER, REPORT, SUBJECT, Talk

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration
NAME = "shop/api"
DIGEST = sha256_digest(IMAGE)
BLOB = f"blobs/{sha256_digest(DATA)}"


@pytest.fixture
def held() -> Iterator[MemoryRegistry]:
    with memory_registry() as found:
        yield found


@pytest.fixture
def talk(held: MemoryRegistry) -> Talk:
    """With an image under `v1`, and no requests counted yet."""
    made = Talk(held.registry.host, NAME)
    made.image("v1")
    held.requests.clear()
    return made


def test_what_it_holds_is_a_value(held: MemoryRegistry, talk: Talk) -> None:
    """Keyed by repository and digest, or tag."""
    talk.put(OTHER)
    assert held.tags == {f"{NAME}:v1": DIGEST}
    assert {key: raw for key, (_, raw) in held.manifests.items()} == {
        f"{NAME}@{sha256_digest(one)}": one for one in (IMAGE, OTHER)
    }
    assert held.blobs == {f"{NAME}@{sha256_digest(one)}": one for one in (CONFIG, DATA)}


def test_a_tag_can_be_deleted_by_its_name() -> None:
    """With `deletes_tags`: the manifest and its other tags stay."""
    with memory_registry(deletes_tags=True) as held:
        talk = Talk(held.registry.host, NAME)
        talk.image("v1", "v2")
        assert [talk("DELETE", "manifests/v1").status for _ in range(2)] == [202, 404]
        assert (held.tags, list(held.manifests)) == ({f"{NAME}:v2": DIGEST}, [f"{NAME}@{DIGEST}"])


def test_referrers_are_listed_with_the_api() -> None:
    """With `referrers`: the push names the subject, and the list has type and annotations."""
    with memory_registry(referrers=True) as held:
        talk = Talk(held.registry.host, NAME)
        talk.image("v1")
        put = talk.put(REPORT)
        listed = talk.json("GET", f"referrers/{SUBJECT['digest']}")
        empty = talk.json("GET", f"referrers/{ABSENT}")
    assert put.headers["OCI-Subject"] == DIGEST
    assert listed["manifests"] == [
        {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": sha256_digest(REPORT),
            "size": len(REPORT),
            "artifactType": "x/report",
            "annotations": {"a": "b"},
        }
    ]
    assert empty["manifests"] == []


def test_an_upload_that_broke_off_is_resumed() -> None:
    """With `resumes`: it reports its offset, rejects any other, and accepts the rest."""
    with memory_registry(resumes=True) as held:
        talk = Talk(held.registry.host, NAME)
        talk("POST", "blobs/uploads/")
        talk.put_and_leave(DATA[:4], size=10)
        where = f"{talk.location}&digest={sha256_digest(DATA)}"
        said = [
            talk("GET", talk.location),
            talk("PUT", where, DATA),
            talk("PUT", where, DATA[5:], Content_Range="5-9"),
            talk("PUT", where, DATA[4:], Content_Range="4-9"),
        ]
        assert [(one.status, one.headers.get("Range")) for one in said] == [
            (204, "0-3"), (416, None), (416, None), (201, None)
        ]  # fmt: skip
        assert (held.blobs, held.uploads) == ({f"{NAME}@{sha256_digest(DATA)}": DATA}, {})


def test_wrong_bytes_are_taken_where_none_are_checked() -> None:
    """Without `checks`."""
    with memory_registry(checks=False) as held:
        assert Talk(held.registry.host, NAME).blob(DATA, ABSENT).status == 201
        assert held.blobs == {f"{NAME}@{ABSENT}": DATA}


FAULTS: dict[str, tuple[dict[str, Any], int, bytes]] = {
    "a status": ({"status": 429}, 429, b""),
    "another body": ({"change": bytes.swapcase}, 200, DATA.swapcase()),
    "half a body": ({"cut": 4}, 200, DATA[:4]),
    "another header": ({"headers": {"Content-Length": "12"}}, 200, DATA),
    "nothing": ({}, 200, DATA),
}


@pytest.mark.parametrize(("fault", "status", "content"), FAULTS.values(), ids=FAULTS)
def test_a_request_goes_wrong_as_asked_for(
    held: MemoryRegistry, talk: Talk, fault: dict[str, Any], status: int, content: bytes
) -> None:
    """As many times as requested; then requests work as usual."""
    held.fail("GET", f".*/{BLOB}", times=1, **fault)
    said = [talk("GET", BLOB) for _ in range(2)]
    assert [(one.status, one.content) for one in said] == [(status, content), (200, DATA)]


@pytest.mark.parametrize(("closed", "carried_out"), [("before", False), ("after", True)])
def test_a_connection_breaks_before_or_after(
    held: MemoryRegistry, talk: Talk, closed: str, *, carried_out: bool
) -> None:
    """Without a response in either case."""
    held.fail("PUT", ".*", closed=closed, times=1)
    with pytest.raises((HTTPException, ConnectionError)):
        talk.put(OTHER, "v2")
    assert (f"{NAME}:v2" in held.tags) is carried_out


def test_an_upload_is_cut(held: MemoryRegistry, talk: Talk) -> None:
    """After some bytes of the blob: nothing is stored, and the bytes are counted."""
    held.received = 0
    held.fail("PUT", ".*/uploads/.*", cut=4, times=1)
    with pytest.raises((HTTPException, ConnectionError)):
        talk.blob(DATA * 2)
    assert (held.received, [bytes(one.content) for one in held.uploads.values()]) == (4, [DATA[:4]])


def test_turns_are_taken_in_order(held: MemoryRegistry, talk: Talk) -> None:
    """Until one of them returns a response. Turns after the request run in any case."""
    seen: list[str] = []
    held.on("GET", ".*", lambda: seen.append("first"))
    held.on("GET", ".*", lambda: Fault(503))
    held.on("GET", ".*", lambda: 429, times=2)
    held.on("GET", ".*", lambda: seen.append(f"after {len(held.requests)}"), after=True)
    assert [talk("GET", BLOB).status for _ in range(4)] == [503, 429, 429, 200]
    assert (seen, held.turns) == (["first", "after 4"], [])


@pytest.mark.parametrize("lost_answer", [False, True])
def test_a_registry_dies_and_comes_back(held: MemoryRegistry, talk: Talk, *, lost_answer: bool) -> None:
    """After some requests; the first one without a response may still be carried out."""
    with held.dying(1, lost_answer=lost_answer):
        talk("GET", BLOB)
        for tag in ("v2", "v3"):
            with pytest.raises((HTTPException, ConnectionError)):
                talk.put(IMAGE, tag)
    assert talk("GET", BLOB).status == 200
    assert held.user_tags(NAME) == {"v1": DIGEST} | ({"v2": DIGEST} if lost_answer else {})
