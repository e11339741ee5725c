"""Copies between registries that fail or lie: either everything arrives, or nothing does, with a reason."""

from __future__ import annotations

import subprocess
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.errors import (
    ContentMismatch,
    NotFound,
    RegistryBusy,
    RegistryError,
    RegistryFailure,
    RegistryUnreachable,
)
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.copy.endpoint import Place
from delivery_chain.oci.copy.engine import Copier
from delivery_chain.oci.copy.limits import Limits
from support.oci_copies import LAYER, NAME, SOON, copied, whole
from support.oci_images import push_image
from support.oci_memory import MemoryRegistry, memory_registry
from support.oci_registry import docker_registry

if TYPE_CHECKING:
    from pathlib import Path

    from delivery_chain.oci.copy.api import CopyResult

pytestmark = pytest.mark.integration


PASSING: dict[str, tuple[str, str, dict[str, Any], int]] = {
    "429 at every request": ("target", "", {"status": 429, "headers": {"Retry-After": "0"}}, 8),
    "503 without a word": ("target", "", {"status": 503}, 5),
    "500 on commit": ("target", "PUT /uploads/", {"status": 500}, 2),
    "the commit's answer is lost": ("target", "PUT /manifests/", {"closed": "after"}, 1),
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
    """Transient faults leave no trace, except for bytes that were sent again."""
    side, where, fault, times = case
    with ExitStack() as stack:
        here, there = (
            stack.enter_context(memory_registry(resumes=True, username="u", password="p")) for _ in range(2)
        )
        with RegistryClient(here.registry) as client:
            digest = push_image(client, NAME, sizes=(LAYER,)).digest
        hurt = here if side == "source" else there
        method, _, path = where.partition(" ")
        if method:
            hurt.fail(method, f".*{path}.*", times=times, **fault)
        else:
            for one in ("GET", "HEAD", "POST", "PUT"):
                hurt.fail(one, ".*", times=times, **fault)

        result = copied(here.registry, there.registry, NAME, digest)

        with RegistryClient(there.registry) as client:
            assert whole(client, NAME, digest)
        # Twice the whole blob, and the bytes of a third try that were in flight when the response came.
        assert result.resent <= 3 * LAYER


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
    source: MemoryRegistry, target: MemoryRegistry, case: tuple[str, str, dict[str, Any], type[RegistryError]]
) -> None:
    """The error has the right class, the manifest is not at the target, and no blob there is wrong."""
    side, where, fault, kind = case
    with RegistryClient(source.registry) as here:
        digest = push_image(here, NAME, sizes=(LAYER,)).digest
    method, _, path = where.partition(" ")
    (source if side == "source" else target).fail(method, f".*{path}.*", **fault)

    with pytest.raises(RegistryError) as caught:
        copied(source.registry, target.registry, NAME, digest, limits=Limits(first_wait=SOON))

    assert type(caught.value) is kind
    assert target.tags == {}
    if kind is not ContentMismatch or side == "source":
        assert target.manifests == {}


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
    source: MemoryRegistry, target: MemoryRegistry, fault: dict[str, Any], *, saved: bool
) -> None:
    """After a cut, a source that returns another part than requested is asked for the whole, or the copy fails."""
    with RegistryClient(source.registry) as here:
        digest = push_image(here, NAME, sizes=(LAYER,)).digest
        layer = here.get_manifest(NAME, digest).blobs[1].digest
    source.fail("GET", f".*{layer}", cut=1_000_000, times=1)
    source.fail("GET", f".*{layer}", **fault)

    if saved:
        assert copied(source.registry, target.registry, NAME, digest).resent == 1_000_000
    else:
        with pytest.raises(RegistryError):
            copied(source.registry, target.registry, NAME, digest)

    held = (f"{NAME}@{layer}" in target.blobs, f"{NAME}@{digest}" in target.manifests)
    assert held == (saved, saved)


def test_a_storm_of_429_is_waited_out(source: MemoryRegistry, target: MemoryRegistry) -> None:
    """A registry that is busy for a while eventually gets everything, and is then used at full speed again."""
    limits = Limits(requests=8, first_wait=SOON)
    with RegistryClient(source.registry) as here:
        digest = push_image(here, NAME, sizes=tuple(range(1000, 1030))).digest
    for method in ("HEAD", "POST"):
        target.fail(method, ".*/blobs/.*", 429, headers={"Retry-After": "0"}, times=20)

    result = copied(source.registry, target.registry, NAME, digest, limits=limits)

    assert (result.copied, result.resent) == (31, 0)
    assert limits.of(target.registry).allowed == 8


def test_one_target_that_fails_leaves_the_other_alone(source: MemoryRegistry, target: MemoryRegistry) -> None:
    """A region that refuses has its error; the other region gets the image."""
    with memory_registry() as broken, ExitStack() as stack:
        here, there, down = (
            stack.enter_context(RegistryClient(one.registry)) for one in (source, target, broken)
        )
        digest = push_image(here, NAME, sizes=(LAYER,)).digest
        broken.fail("PUT", ".*/uploads/.*", cut=500_000)

        with Copier(
            Place(here, NAME), [Place(down, NAME), Place(there, NAME)], limits=Limits(first_wait=SOON)
        ) as copier:
            first, second = copier.run(copier.plan(digest))

        assert isinstance(first.error, RegistryUnreachable)
        assert second.error is None
        assert whole(there, NAME, digest)
        assert broken.manifests == {}


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
    """A full target refuses, nothing can be pulled there, and the same copy works once it has room."""
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
