"""Copies to, from and within an independent registry: go-containerregistry's, if `crane` is installed.

`CRANE` may name the program. Debian's testing packages have its source; benchmarks/README.md says how to build it.
"""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from delivery_chain.core.names.registry import Registry
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.copy.api import copy_image, put_tag
from delivery_chain.oci.copy.endpoint import Place
from delivery_chain.oci.copy.engine import Copier
from delivery_chain.oci.copy.limits import Limits
from delivery_chain.oci.manifest import DOCKER_CONFIG, DOCKER_MANIFEST
from delivery_chain.oci.referrers import attach, list_referrers
from support.oci_images import push_image, push_index
from support.oci_proxy import Break, line_to
from support.oci_registry import free_port
from support.processes import await_port, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CRANE = os.environ.get("CRANE", "crane")
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which(CRANE) is None, reason="needs `crane`, or its path in CRANE"),
]
NAME = "shop/api"


@contextmanager
def crane_registry(folder: Path) -> Iterator[Registry]:
    """Run `crane registry serve` until the block ends."""
    port = free_port()
    (folder / "blobs").mkdir(parents=True)
    command = [CRANE, "registry", "serve", "--address", f"127.0.0.1:{port}", "--disk", str(folder / "blobs")]
    with running(command, folder / "log") as process:
        await_port(process, port, folder / "log", name="crane")
        yield Registry(host=f"127.0.0.1:{port}", plain_http=True)


@pytest.fixture
def second(tmp_path: Path) -> Iterator[RegistryClient]:
    with crane_registry(tmp_path / "second") as registry, RegistryClient(registry, timeout=10) as client:
        yield client


@pytest.mark.parametrize("there", [True, False], ids=["to it", "from it"])
def test_index_and_referrers_cross(
    oci_client: RegistryClient, second: RegistryClient, oci_repository: str, *, there: bool
) -> None:
    """An index with its referrers is copied both ways between two implementations; a second copy moves nothing."""
    source, target = (oci_client, second) if there else (second, oci_client)
    children = tuple(
        push_image(source, oci_repository, seed=seed, platform=f"linux/{one}", sizes=(1_500_000, 10))
        for seed, one in ((1, "amd64"), (2, "arm64"))
    )
    index = push_index(source, oci_repository, children)
    report = attach(source, oci_repository, index, "x/report", b"{}", "application/json")

    first, again = (copy_image(source, oci_repository, index.digest, target, "to/it") for _ in range(2))
    put_tag(target, "to/it", "v1", index.digest)

    assert (first.referrers, first.resent, again.bytes, again.copied) == (1, 0, 0, 0)
    assert target.get_manifest("to/it", "v1") == source.get_manifest(oci_repository, index.digest)
    assert [one.digest for one in list_referrers(target, "to/it", index.digest)] == [report.digest]


def test_a_registry_that_can_not_mount_is_sent_to(second: RegistryClient) -> None:
    """If a mount turns into an upload, that upload is used."""
    image = push_image(second, NAME)

    result = copy_image(second, NAME, image.digest, second, "shop/other")

    assert result.copied + result.skipped + result.mounted == 3


def test_two_repositories_of_it_do_not_wait_for_each_other(
    oci_client: RegistryClient, second: RegistryClient, oci_repository: str
) -> None:
    """This registry accepts one upload at a time: two concurrent writes to it would never end."""
    image = push_image(oci_client, oci_repository, sizes=(6_000_000,))

    with Copier(Place(oci_client, oci_repository), [Place(second, "a"), Place(second, "b")]) as copier:
        outcomes = copier.run(copier.plan(image.digest))

    assert [one.error for one in outcomes] == [None, None]


def test_its_ranges_and_its_cut_uploads(
    oci_client: RegistryClient, second: RegistryClient, oci_repository: str
) -> None:
    """A cut source is resumed with this registry's form of `Range`; a cut upload starts its blob over."""
    image = push_image(second, NAME, sizes=(1_500_000,))
    with ExitStack() as stack:
        line = stack.enter_context(line_to(second.registry))
        client = stack.enter_context(RegistryClient(line.registry, timeout=10))
        line.breaks.append(Break(up=False, after=700_000))
        limits = Limits(first_wait=0.01)
        there = copy_image(client, NAME, image.digest, oci_client, oci_repository, limits=limits)
        line.breaks.append(Break(up=True, after=700_000))
        back = copy_image(oci_client, oci_repository, image.digest, client, "back", limits=limits)

    assert there.resent == 0
    assert back.resent <= 1_500_000
    assert second.head_manifest("back", image.digest) is not None


def test_docker_media_types(oci_client: RegistryClient, second: RegistryClient, oci_repository: str) -> None:
    """A Docker manifest keeps its type and its bytes."""
    raw = (
        second.get_manifest(NAME, push_image(second, NAME).digest)
        .raw.replace(b"application/vnd.oci.image.manifest.v1+json", DOCKER_MANIFEST.encode())
        .replace(b"application/vnd.oci.image.config.v1+json", DOCKER_CONFIG.encode())
    )
    digest = second.put_manifest(NAME, "docker", raw, DOCKER_MANIFEST)

    copy_image(second, NAME, digest, oci_client, oci_repository)

    found = oci_client.get_manifest(oci_repository, digest)
    assert (found.raw, found.media_type) == (raw, DOCKER_MANIFEST)
