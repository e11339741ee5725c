"""Copies over lines that break and between registries that fail: all arrives, or nothing does and it is said why."""

from __future__ import annotations

import subprocess
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.core.registry import Registry
from delivery_chain.errors import (
    ContentMismatch,
    NotFound,
    RegistryBusy,
    RegistryError,
    RegistryFailure,
    RegistryUnreachable,
)
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.copier import Copier
from delivery_chain.oci.copy import CopyResult, copy_image
from delivery_chain.oci.limits import Limits
from delivery_chain.oci.place import Place
from delivery_chain.oci.refusal import Refusals
from support.oci_faulty import Fault, Memory, memory_registry
from support.oci_images import push_image
from support.oci_proxy import Break, line_to
from support.oci_registry import docker_registry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

pytestmark = pytest.mark.integration
NAME = "shop/api"
LAYER = 1_500_000
HEAD = 4000
"""More bytes than all the answers' heads of one copy together, and fewer than any range that is cut."""
SOON = 0.002


@pytest.fixture
def source() -> Iterator[Memory]:
    with memory_registry() as memory:
        yield memory


@pytest.fixture
def target() -> Iterator[Memory]:
    with memory_registry() as memory:
        yield memory


def whole(client: RegistryClient, name: str, digest: str) -> bool:
    """Whether a target can give every byte of an image."""
    manifest = client.get_manifest(name, digest)
    return all(len(client.get_blob(name, blob.digest)) == blob.size for blob in manifest.blobs)


def copied(
    source: Any, target: Any, name: str, digest: str, *, timeout: float = 20, **more: Any
) -> CopyResult:
    """A copy with clients of its own and short waits."""
    with (
        RegistryClient(source, timeout=timeout) as here,
        RegistryClient(target, timeout=timeout) as there,
    ):
        return copy_image(here, name, digest, there, name, **{"limits": Limits(first_wait=SOON), **more})


CUTS = [1, 200, 70_000, 400_000, 1_000_000, LAYER - 1, LAYER + 100]


@pytest.mark.parametrize("after", CUTS)
@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_cut_source_goes_on_by_range(
    oci_client: RegistryClient, oci_target: RegistryClient, oci_repository: str, after: int, how: str
) -> None:
    """Wherever the source breaks off, the upload stays open, and what came is not fetched again."""
    digest = push_image(oci_client, oci_repository, sizes=(LAYER,)).digest
    with line_to(oci_client.registry) as line, line_to(oci_target.registry) as other:
        line.breaks.append(Break(up=False, after=after, how=how))
        result = copied(line.registry, other.registry, oci_repository, digest)

        assert line.broken == 1
        assert result.resent == 0
        # A reset throws away what the client had not read yet: up to what its buffers hold.
        assert line.down < LAYER + HEAD + (0 if how == "close" else LAYER)
        assert other.up < LAYER + 3 * HEAD
    assert whole(oci_target, oci_repository, digest)


def test_a_source_that_breaks_again_and_again(
    oci_client: RegistryClient, oci_target: RegistryClient, oci_repository: str
) -> None:
    """Each piece of 150 kB on a connection of its own still makes one upload."""
    digest = push_image(oci_client, oci_repository, sizes=(LAYER,)).digest
    with line_to(oci_client.registry) as line:
        line.breaks.append(Break(up=False, after=150_000, times=1000))
        result = copied(line.registry, oci_target.registry, oci_repository, digest)

        assert line.broken >= 9
        assert line.down < LAYER + 20 * HEAD
    assert (result.resent, whole(oci_target, oci_repository, digest)) == (0, True)


@pytest.mark.parametrize("after", [300, *CUTS[2:]])
@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_cut_upload_starts_that_blob_again(
    oci_client: RegistryClient, oci_target: RegistryClient, oci_repository: str, after: int, how: str
) -> None:
    """docker-registry can't go on with an upload that broke off: one blob is sent again, and no more than that."""
    digest = push_image(oci_client, oci_repository, sizes=(LAYER, 5000)).digest
    with line_to(oci_target.registry) as line:
        line.breaks.append(Break(up=True, after=after, how=how))
        result = copied(oci_client.registry, line.registry, oci_repository, digest)

        assert line.broken == 1
        assert result.resent <= LAYER
        assert line.up < 2 * LAYER + 5 * HEAD
    assert whole(oci_target, oci_repository, digest)


@pytest.mark.parametrize("cut", [2, 100_000, 700_000, LAYER - 1])
def test_a_cut_upload_goes_on_where_the_registry_can(source: Memory, target: Memory, cut: int) -> None:
    """A registry that tells its offset gets the rest: its bytes come once, and a few to ask if it checks them."""
    with RegistryClient(source.registry) as here:
        digest = push_image(here, NAME, sizes=(LAYER,)).digest
    before = target.received
    target.fail("PUT", "/uploads/", cut=cut)

    copied(source.registry, target.registry, NAME, digest)

    size = sum(len(blob) for blob in target.blobs[NAME].values())
    assert target.received - before in (size, size + len(b"wrong bytes"))
    with RegistryClient(target.registry) as there:
        assert whole(there, NAME, digest)


def test_no_byte_is_trusted_to_a_registry_that_checks_none(source: Memory, target: Memory) -> None:
    """Where wrong bytes are not refused, a cut upload starts again and all of it is hashed here."""
    target.checks = False
    with RegistryClient(source.registry) as here:
        digest = push_image(here, NAME, sizes=(LAYER,)).digest
        layer = here.get_manifest(NAME, digest).blobs[1].digest
    target.fail("PUT", layer, cut=700_000)
    source.fail("GET", layer, times=1)
    source.fail("GET", layer, change=lambda body: body[:-1] + b"x", times=1000)

    with pytest.raises(ContentMismatch, match="thrown away"):
        copied(source.registry, target.registry, NAME, digest)

    assert layer not in target.blobs.get(NAME, {})
    assert target.manifests.get(NAME, {}) == {}


def test_a_registry_is_asked_once_whether_it_checks(
    oci_client: RegistryClient, target: Memory, oci_repository: str
) -> None:
    """docker-registry refuses wrong bytes; one that takes them is not trusted, nor one that can't be asked."""
    refusals = Refusals()
    target.checks = False
    with (
        RegistryClient(target.registry) as lax,
        RegistryClient(Registry("127.0.0.1:1", plain_http=True)) as gone,
    ):
        places = [Place(oci_client, oci_repository), Place(lax, NAME), Place(gone, NAME)]
        for place in (*places, *places):
            refusals.ask(place)

    assert [refusals.known(place) for place in places] == [True, False, False]
    assert target.count("PUT") == 1


class Kept:
    """A `Resume` in memory."""

    def __init__(self) -> None:
        self.state: dict[str, str] = {}
        self.saves = 0

    def load(self) -> Mapping[str, str]:
        return self.state

    def save(self, state: Mapping[str, str]) -> None:
        self.state, self.saves = dict(state), self.saves + 1


def test_the_next_attempt_goes_on_with_an_open_upload(source: Memory, target: Memory) -> None:
    """What a failed attempt left open is taken up by the next one, and its bytes are not sent again."""
    size, cut, kept = 9_000_000, 6_000_000, Kept()
    with RegistryClient(source.registry) as here:
        digest = push_image(here, NAME, sizes=(size,)).digest
        layer = here.get_manifest(NAME, digest).blobs[1].digest
    target.fail("PUT", f"/uploads/.*{layer}", cut=cut)
    # The registry goes away in the middle, and stays away for longer than a copy waits.
    target.faults.append(_away(target))

    with pytest.raises(RegistryError):
        copied(source.registry, target.registry, NAME, digest, resume=kept)
    target.faults.clear()
    open_now = dict(kept.state)
    result = copied(source.registry, target.registry, NAME, digest, resume=kept)

    assert len(open_now) == 1
    assert result.bytes <= size - cut + HEAD
    assert kept.state == {}


def _away(memory: Memory) -> Fault:
    return Fault(
        lambda one: one.method == "HEAD" and memory.received > 5_000_000,
        status=503,
        headers={"Retry-After": "100"},
        times=1000,
    )


def test_a_state_that_is_no_use_is_thrown_away(source: Memory, target: Memory) -> None:
    """Uploads that are gone, or lie at another host, cost a request and no harm."""
    with RegistryClient(source.registry) as here:
        image = push_image(here, NAME, sizes=(9_000_000, 8_500_000))
        layers = here.get_manifest(NAME, image.digest).blobs[1:]
    kept = Kept()
    base = f"{target.registry.base_url}/{NAME}@"
    kept.state = {
        base + layers[0].digest: f"{target.registry.base_url}/v2/{NAME}/blobs/uploads/77",
        base + layers[1].digest: "https://198.51.100.7/v2/x",
    }

    result = copied(source.registry, target.registry, NAME, image.digest, resume=kept)

    assert (result.copied, result.resent, kept.state) == (3, 0, {})


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_line_that_stands_still_is_left(
    oci_client: RegistryClient, oci_target: RegistryClient, oci_repository: str, side: str
) -> None:
    """A connection that is open but moves nothing (stalled, half open) ends with the timeout, and the copy goes on."""
    digest = push_image(oci_client, oci_repository, sizes=(LAYER,)).digest
    with line_to(oci_client.registry) as one, line_to(oci_target.registry) as other:
        line = one if side == "source" else other
        line.breaks.append(Break(up=side == "target", after=300_000, how="stall"))
        copied(one.registry, other.registry, oci_repository, digest, timeout=0.5)

        assert line.broken == 1
    assert whole(oci_target, oci_repository, digest)


def test_a_line_that_never_gets_better_is_an_error(
    oci_client: RegistryClient, oci_target: RegistryClient, oci_repository: str
) -> None:
    """Hope ends: the error names the target, and nothing can be pulled there."""
    digest = push_image(oci_client, oci_repository, sizes=(LAYER,)).digest
    with line_to(oci_target.registry) as line:
        line.breaks.append(Break(up=True, after=200_000, times=1000))
        with pytest.raises(RegistryUnreachable, match=line.registry.host):
            copied(oci_client.registry, line.registry, oci_repository, digest)

    assert oci_target.head_manifest(oci_repository, digest) is None


PASSING: dict[str, tuple[str, str, dict[str, Any], int]] = {
    "429 at every request": ("target", "", {"status": 429, "headers": {"Retry-After": "0"}}, 8),
    "503 without a word": ("target", "", {"status": 503}, 5),
    "500 on commit": ("target", "PUT /uploads/", {"status": 500}, 2),
    "the commit's answer is lost": ("target", "PUT /manifests/", {"cut": 0}, 1),
    "404 of an upload": ("target", "PUT /uploads/", {"status": 404}, 1),
    "401 in mid-copy, source": ("source", "", {"status": 401, "headers": {"WWW-Authenticate": "Basic realm=x"}}, 1),
    "401 in mid-copy, upload": (
        "target", "PUT /uploads/", {"status": 401, "headers": {"WWW-Authenticate": "Basic realm=x"}}, 1,
    ),
    "source gives a manifest cut short": ("source", "GET /manifests/", {"cut": 10}, 2),
    "source gives other bytes once": ("source", "GET /blobs/", {"change": bytes.swapcase}, 1),
    "source ignores Range": ("source", "GET /blobs/", {"cut": 1_000_000}, 1),
}  # fmt: skip


@pytest.mark.parametrize("case", PASSING.values(), ids=PASSING)
def test_what_passes_is_waited_out(case: tuple[str, str, dict[str, Any], int]) -> None:
    """Faults that end by themselves leave no trace but bytes that were sent again."""
    side, where, fault, times = case
    with ExitStack() as stack:
        here, there = (stack.enter_context(memory_registry(username="u", password="p")) for _ in range(2))
        with RegistryClient(here.registry) as client:
            digest = push_image(client, NAME, sizes=(LAYER,)).digest
        hurt = here if side == "source" else there
        method, _, path = where.partition(" ")
        if method:
            hurt.fail(method, path, times=times, **fault)
        else:
            for one in ("GET", "HEAD", "POST", "PUT"):
                hurt.fail(one, "/v2/", times=times, **fault)

        result = copied(here.registry, there.registry, NAME, digest)

        with RegistryClient(there.registry) as client:
            assert whole(client, NAME, digest)
        assert result.resent <= 2 * LAYER


LASTING: dict[str, tuple[str, str, dict[str, Any], type[RegistryError]]] = {
    "500 on commit": ("target", "PUT /uploads/", {"status": 500}, RegistryFailure),
    "500 on a manifest": ("target", "PUT /manifests/", {"status": 500}, RegistryFailure),
    "429 for an hour": ("target", "POST /uploads/", {"status": 429, "headers": {"Retry-After": "3600"}}, RegistryBusy),
    "429 for ever": ("target", "POST /uploads/", {"status": 429, "headers": {"Retry-After": "0"}}, RegistryBusy),
    "a blob deleted at the source": ("source", "GET /blobs/", {"status": 404}, NotFound),
    "other bytes": ("source", "GET /blobs/", {"change": lambda body: body[:-1] + b"x"}, ContentMismatch),
    "fewer bytes": ("source", "GET /blobs/", {"change": lambda body: body[:-1]}, ContentMismatch),
    "more bytes": ("source", "GET /blobs/", {"change": lambda body: body + b"x"}, ContentMismatch),
    "another size": ("source", "GET /blobs/", {"headers": {"Content-Length": "7"}}, ContentMismatch),
    "another manifest": ("source", "GET /manifests/", {"change": lambda body: body + b" "}, ContentMismatch),
    "a digest that was not sent": (
        "target", "PUT /manifests/", {"headers": {"Docker-Content-Digest": "sha256:" + "0" * 64}}, ContentMismatch,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LASTING.values(), ids=LASTING)
def test_what_lasts_is_an_error_and_nothing_is_pullable(
    source: Memory, target: Memory, case: tuple[str, str, dict[str, Any], type[RegistryError]]
) -> None:
    """The error is of its kind, the source's manifest is not at the target, and no blob there is a wrong one."""
    side, where, fault, kind = case
    with RegistryClient(source.registry) as here:
        digest = push_image(here, NAME, sizes=(LAYER,)).digest
    method, _, path = where.partition(" ")
    (source if side == "source" else target).fail(method, path, times=1000, **fault)

    with pytest.raises(RegistryError) as caught:
        copied(source.registry, target.registry, NAME, digest, limits=Limits(first_wait=SOON))

    assert type(caught.value) is kind
    assert target.tags == {}
    if kind is not ContentMismatch or side == "source":
        assert target.manifests.get(NAME, {}) == {}


RANGES: dict[str, tuple[dict[str, Any], bool]] = {
    "another place": ({"headers": {"Content-Range": "bytes 0-10/1500000"}}, True),
    "another size": ({"headers": {"Content-Range": "bytes 1000000-1499999/1500001"}}, True),
    "nothing said": ({"headers": {"Content-Range": ""}}, True),
    "other bytes under the right range": ({"change": lambda body: bytes(len(body))}, False),
    "deleted meanwhile": ({"status": 404}, False),
    "beyond the end": ({"status": 416}, False),
}


@pytest.mark.parametrize(("fault", "saved"), RANGES.values(), ids=RANGES)
def test_a_lie_about_a_range_is_found_out(
    source: Memory, target: Memory, fault: dict[str, Any], *, saved: bool
) -> None:
    """After a cut, a source that gives another part than was asked for is asked for the whole, or is an error."""
    with RegistryClient(source.registry) as here:
        digest = push_image(here, NAME, sizes=(LAYER,)).digest
        layer = here.get_manifest(NAME, digest).blobs[1].digest
    source.fail("GET", layer, cut=1_000_000, times=1)
    source.fail("GET", layer, times=1000, **fault)

    if saved:
        assert copied(source.registry, target.registry, NAME, digest).resent == 1_000_000
    else:
        with pytest.raises(RegistryError):
            copied(source.registry, target.registry, NAME, digest)

    assert (layer in target.blobs.get(NAME, {}), digest in target.manifests.get(NAME, {})) == (saved, saved)


def test_a_storm_of_429_is_waited_out(source: Memory, target: Memory) -> None:
    """A registry that is too busy for a while gets everything in the end, and is used as before when it is well."""
    limits = Limits(requests=8, first_wait=SOON)
    with RegistryClient(source.registry) as here:
        digest = push_image(here, NAME, sizes=tuple(range(1000, 1030))).digest
    for method in ("HEAD", "POST"):
        target.fail(method, "/blobs/", status=429, headers={"Retry-After": "0"}, times=20)

    result = copied(source.registry, target.registry, NAME, digest, limits=limits)

    assert (result.copied, result.resent) == (31, 0)
    assert limits.of(target.registry).allowed == 8


def test_one_target_that_fails_leaves_the_other_alone(source: Memory, target: Memory) -> None:
    """A region that refuses has its error; the other region has the image."""
    with memory_registry() as broken, ExitStack() as stack:
        here, there, down = (
            stack.enter_context(RegistryClient(one.registry)) for one in (source, target, broken)
        )
        digest = push_image(here, NAME, sizes=(LAYER,)).digest
        broken.fail("PUT", "/uploads/", cut=500_000, times=1000)
        broken.resumes = False

        with Copier(
            Place(here, NAME), [Place(down, NAME), Place(there, NAME)], limits=Limits(first_wait=SOON)
        ) as copier:
            first, second = copier.run(copier.plan(digest))

        assert isinstance(first.error, RegistryUnreachable)
        assert second.error is None
        assert whole(there, NAME, digest)
        assert broken.manifests.get(NAME, {}) == {}


def test_two_copies_at_once_to_one_target(
    oci_client: RegistryClient, oci_target: RegistryClient, oci_repository: str
) -> None:
    """Two workers that copy the same image at the same moment both succeed."""
    digest = push_image(oci_client, oci_repository, sizes=(LAYER, 400_000, 5000)).digest
    results: list[CopyResult] = []
    start = threading.Barrier(2)

    def work() -> None:
        start.wait()
        results.append(copied(oci_client.registry, oci_target.registry, oci_repository, digest))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()

    assert len(results) == 2
    assert whole(oci_target, oci_repository, digest)


def test_a_full_disk_at_the_target(oci_client: RegistryClient, oci_repository: str, tmp_path: Path) -> None:
    """A target without room refuses, nothing can be pulled there, and the same copy works once there is room."""
    digest = push_image(oci_client, oci_repository, sizes=(LAYER, 3_000_000)).digest
    data = tmp_path / "data"
    data.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", data], check=False)
    if mounted.returncode:
        pytest.skip("mounting a tmpfs needs root")
    try:
        with docker_registry(tmp_path) as registry, RegistryClient(registry) as there:
            with pytest.raises(RegistryFailure, match="HTTP 500"):
                copied(oci_client.registry, registry, oci_repository, digest)
            assert there.head_manifest(oci_repository, digest) is None

            subprocess.run(["mount", "-o", "remount,size=40m", data], check=True)
            copied(oci_client.registry, registry, oci_repository, digest)
            assert whole(there, oci_repository, digest)
    finally:
        subprocess.run(["umount", data], check=True)
