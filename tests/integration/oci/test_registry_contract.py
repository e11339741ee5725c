"""The in-memory registry behaves like docker-registry: same requests, same responses, same state."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from delivery_chain.core.names.reference import sha256_digest
from delivery_chain.oci.manifest import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from support.oci_memory import memory_registry
from support.oci_registry import docker_registry
from support.oci_talk import (
    ABSENT,
    CONFIG,
    DATA,
    IMAGE,
    INDEX,
    KINDS,
    OTHER,
    REPORT,
    SUBJECT,
    Said,
    Talk,
    index,
    manifest,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from delivery_chain.oci.client import RegistryClient

pytestmark = pytest.mark.integration


def missing(talk: Talk) -> None:
    for path in (
        "tags/list",
        f"blobs/{ABSENT}",
        "blobs/sha256:12",
        "blobs/uploads/",
        "blobs/uploads/x",
        "nothing",
    ):
        talk("GET", path)
    for ref in ("v1", ABSENT):
        talk.get(ref)
        talk("DELETE", f"manifests/{ref}")
    talk("DELETE", f"blobs/{ABSENT}")


def wrong_verbs(talk: Talk) -> None:
    for path in (f"blobs/{ABSENT}", "manifests/v1", "tags/list"):
        talk("POST", path)
    talk("PUT", f"blobs/{ABSENT}", b"x")
    talk("GET", "/v2/")
    talk("GET", "/v2/UPPER/tags/list")


def manifests(talk: Talk) -> None:
    talk.image("", "v1", "v2")
    for ref in ("v1", sha256_digest(IMAGE)):
        talk.get(ref)
    talk.put(OTHER, "v2")
    talk.put(INDEX, "v1")
    talk("GET", "tags/list")


def accepted_types(talk: Talk) -> None:
    talk.image("v1")
    talk.put(OTHER)
    talk.put(INDEX, "v2")
    for accept in ("", "*/*", OCI_MANIFEST, OCI_INDEX, f"{OCI_INDEX},{OCI_MANIFEST};q=0.5"):
        for ref in ("v1", "v2", sha256_digest(IMAGE)):
            talk.get(ref, accept)


def wrong_manifests(talk: Talk) -> None:
    talk.image("v1")
    talk.put(IMAGE, ABSENT)
    for raw, kind in (
        (b"nonsense", OCI_MANIFEST), (b"[]", OCI_MANIFEST), (IMAGE, DOCKER_MANIFEST), (IMAGE, "application/x-foo"),
        (INDEX, OCI_INDEX), (manifest(b"absent"), OCI_MANIFEST), (manifest(b"absent", b"gone"), OCI_MANIFEST),
    ):  # fmt: skip
        talk.put(raw, "v2", kind)
    talk("GET", "tags/list")


def odd_children(talk: Talk) -> None:
    talk.image()
    talk.put(index(DATA), "v1", OCI_INDEX)
    talk.put(index(), "v2", OCI_INDEX)
    talk.get("v1")


def blobs_of_others(talk: Talk) -> None:
    talk.image("v1")
    other = Talk(talk.host, f"{talk.name}/other", talk.said)
    other.put(IMAGE, "v1")
    other("GET", f"blobs/{sha256_digest(DATA)}")
    other("GET", "tags/list")


def mounts(talk: Talk) -> None:
    talk.image("v1")
    other = Talk(talk.host, f"{talk.name}/other", talk.said)
    wanted, is_manifest = sha256_digest(DATA), sha256_digest(IMAGE)
    for query in (
        f"mount={ABSENT}&from={talk.name}", f"mount={wanted}", f"mount={wanted}&from=no/such",
        f"mount=x&from={talk.name}", f"mount={is_manifest}&from={talk.name}", f"mount={wanted}&from={talk.name}",
    ):  # fmt: skip
        other("POST", f"blobs/uploads/?{query}")
    other("GET", f"blobs/{wanted}")
    talk("DELETE", f"blobs/{wanted}")
    other("HEAD", f"blobs/{wanted}")


def parts_of_blobs(talk: Talk) -> None:
    talk.blob(DATA)
    for wanted in ("2-5", "2-", "-3", "0-0", "5-100", "9-9", "10-", "20-30"):
        talk("GET", f"blobs/{sha256_digest(DATA)}", Range=f"bytes={wanted}")
    talk("HEAD", f"blobs/{sha256_digest(DATA)}", Range="bytes=2-5")
    talk("GET", f"blobs/{sha256_digest(DATA)}", Range="x")


def uploads(talk: Talk) -> None:
    talk.blob(DATA)
    talk.blob(b"")
    talk("POST", f"blobs/uploads/?digest={sha256_digest(DATA * 2)}", DATA * 2)
    talk("HEAD", f"blobs/{sha256_digest(DATA * 2)}")


def chunks(talk: Talk) -> None:
    talk("POST", "blobs/uploads/")
    talk("GET", talk.location)
    for content in (DATA[:1], DATA[1:]):
        old = talk.location
        talk("PATCH", old, content)
        talk("GET", talk.location)
        talk("GET", old)
        talk("PATCH", old, content)
    # The offset in its address counts, and `Content-Range` is ignored.
    talk("PATCH", talk.location, DATA[:5], Content_Range="90-94")
    talk("PUT", f"{talk.location}&digest={sha256_digest(DATA * 2)}", DATA[5:])
    talk("GET", talk.location)
    talk("PUT", f"{talk.location}&digest={sha256_digest(DATA * 2)}", b"")


def wrong_uploads(talk: Talk) -> None:
    talk.blob(DATA, ABSENT)
    talk("GET", talk.location)
    talk("PUT", f"{talk.location}&digest={ABSENT}", b"absent")
    talk("POST", "blobs/uploads/")
    talk("PUT", talk.location, DATA)
    talk("PUT", f"{talk.location}&digest=sha256:12", DATA)
    talk("PUT", f"{talk.location.partition('?')[0]}?digest={sha256_digest(DATA)}", DATA)
    talk("DELETE", talk.location)
    for method in ("DELETE", "GET", "PATCH"):
        talk(method, talk.location)


def a_cut_upload(talk: Talk) -> None:
    talk("POST", "blobs/uploads/")
    talk.put_and_leave(DATA, size=99)
    for method in ("GET", "PATCH", "DELETE"):
        talk(method, talk.location)


def deletes(talk: Talk) -> None:
    talk.image("v1", "v2")
    talk.put(OTHER)
    talk.put(INDEX, "latest")
    talk("DELETE", "manifests/v1")
    for _ in range(2):
        talk("DELETE", f"manifests/{sha256_digest(IMAGE)}")
        talk("DELETE", f"blobs/{sha256_digest(DATA)}")
    talk.get("latest")
    talk("DELETE", f"manifests/{sha256_digest(INDEX)}")
    # Even without tags, the repository still exists.
    talk("GET", "tags/list")
    talk.put(OTHER, "v1")


def referrers(talk: Talk) -> None:
    talk.image("v1")
    talk.put(REPORT)
    talk("GET", f"referrers/{SUBJECT['digest']}")


STORIES: dict[str, Callable[[Talk], None]] = {
    one.__name__.replace("_", " "): one
    for one in (
        missing, wrong_verbs, manifests, accepted_types, wrong_manifests, odd_children, blobs_of_others, mounts,
        parts_of_blobs, uploads, chunks, wrong_uploads, a_cut_upload, deletes, referrers,
    )
}  # fmt: skip


@pytest.fixture(scope="module")
def hosts(oci_client: RegistryClient) -> Iterator[tuple[str, str]]:
    """A real registry and one in memory."""
    with memory_registry() as held:
        yield oci_client.registry.host, held.registry.host


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_both_say_the_same(
    hosts: tuple[str, str], oci_repository: str, story: Callable[[Talk], None]
) -> None:
    """Status, error codes, content, and headers that clients depend on; then everything that can be requested."""
    real, memory = (Talk(host, oci_repository) for host in hosts)
    for talk in (real, memory):
        story(talk)
        talk.look()
    assert memory.said == real.said


def test_lists_of_repositories_are_the_same(tmp_path: Path) -> None:
    """In pages, with the link to the next one; a repository whose blobs were all deleted stays."""

    def story(host: str) -> list[Said]:
        talk = Talk(host, "b")
        talk("GET", "/v2/_catalog")
        for name in ("a/c", "b", "a", "a-b"):
            Talk(host, name, talk.said).blob(DATA)
        talk("DELETE", f"blobs/{sha256_digest(DATA)}")
        for query in ("", "?n=1", "?n=2&last=a", "?n=4", "?n=3&last=a", "?n=0", "?n=x", "?last=b"):
            talk("GET", f"/v2/_catalog{query}")
        return talk.said

    with docker_registry(tmp_path) as real, memory_registry() as held:
        assert story(held.registry.host) == story(real.host)


def test_deletes_that_are_off_are_the_same(tmp_path: Path) -> None:
    """docker-registry's default."""

    def story(host: str) -> list[Said]:
        talk = Talk(host, "a")
        talk.image("v1")
        for path in (
            "manifests/v1",
            f"manifests/{sha256_digest(IMAGE)}",
            f"blobs/{ABSENT}",
            f"manifests/{ABSENT}",
        ):
            talk("DELETE", path)
        talk.look()
        return talk.said

    storage = {"filesystem": {"rootdirectory": str(tmp_path / "data")}}
    with docker_registry(tmp_path, storage=storage) as real, memory_registry(deletes=False) as held:
        assert story(held.registry.host) == story(real.host)


NAMES, TAGS, BLOBS = (
    st.sampled_from(("a", "b")),
    st.sampled_from(("v1", "v2", "")),
    st.sampled_from((CONFIG, DATA)),
)
RAWS = st.sampled_from(tuple(KINDS))
REQUESTS = st.one_of(
    st.tuples(st.just("blob"), NAMES, BLOBS),
    st.tuples(st.just("mount"), NAMES, BLOBS),
    st.tuples(st.just("put"), NAMES, RAWS, TAGS),
    st.tuples(st.just("get"), NAMES, RAWS, TAGS),
    st.tuples(st.just("delete"), NAMES, RAWS, TAGS),
    st.tuples(st.just("delete blob"), NAMES, BLOBS),
)
"""Request, repository, content, and a tag or else a digest."""
NUMBERS = itertools.count()


def ask(talks: dict[str, Talk], what: str, at: str, about: bytes, tag: str = "") -> None:
    talk, digest = talks[at], sha256_digest(about)
    other = talks["a" if at == "b" else "b"].name
    match what:
        case "blob":
            talk.blob(about)
        case "mount":
            talk("POST", f"blobs/uploads/?mount={digest}&from={other}")
        case "put":
            talk.put(about, tag)
        case "get":
            talk.get(tag or digest)
        case "delete":
            talk("DELETE", f"manifests/{tag or digest}")
        case "delete blob":
            talk("DELETE", f"blobs/{digest}")


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=st.lists(REQUESTS, max_size=25))
def test_whatever_is_asked_for_is_answered_the_same(
    hosts: tuple[str, str], oci_repository: str, requests: list[tuple[str, str, bytes]]
) -> None:
    """Pushes, mounts and deletions in two repositories, in any order."""
    base, transcripts = f"{oci_repository}/{next(NUMBERS)}", []
    for host in hosts:
        said: list[Said] = []
        talks = {name: Talk(host, f"{base}/{name}", said) for name in ("a", "b")}
        for one in requests:
            ask(talks, *one)
        for talk in talks.values():
            talk.look()
        transcripts.append(said)
    assert transcripts[1] == transcripts[0]
