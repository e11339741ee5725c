"""Costs of copies: requests and bytes, counted by a proxy and by a registry in memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.copy.api import copy_image, put_tag
from delivery_chain.oci.copy.endpoint import Place
from delivery_chain.oci.copy.engine import Copier
from delivery_chain.oci.copy.limits import Limits
from delivery_chain.oci.referrers import attach, list_referrers
from support.oci_images import push_image, push_index
from support.oci_memory import MemoryRegistry, memory_registry
from support.oci_proxy import line_to

pytestmark = pytest.mark.integration
NAME = "shop/api"


def index_of_three(client: RegistryClient, name: str = NAME) -> str:
    platforms = ("linux/amd64", "linux/arm64", "linux/s390x")
    children = tuple(push_image(client, name, seed=at, platform=one) for at, one in enumerate(platforms))
    return push_index(client, name, children).digest


@pytest.mark.parametrize("tagged", [False, True], ids=["untagged", "among tags"])
def test_in_sync_costs_two_requests_more_than_manifests(
    oci_client: RegistryClient, oci_target: RegistryClient, oci_repository: str, *, tagged: bool
) -> None:
    """An image that is already there costs one request per manifest, and two to learn that it has no referrers."""
    digest = index_of_three(oci_client, oci_repository)
    if tagged:
        put_tag(oci_client, oci_repository, "v1", digest)
    copy_image(oci_client, oci_repository, digest, oci_target, oci_repository)

    with line_to(oci_client.registry) as one, line_to(oci_target.registry) as other:
        with RegistryClient(one.registry) as source, RegistryClient(other.registry) as target:
            result = copy_image(source, oci_repository, digest, target, oci_repository)
        counts = (one.requests, other.requests)

    assert (result.manifests, result.bytes, result.skipped) == (4, 0, result.blobs)
    assert counts == (2, 4)


def test_a_single_image_in_sync_costs_three_requests(source: MemoryRegistry, target: MemoryRegistry) -> None:
    """One manifest, plus two."""
    with RegistryClient(source.registry) as here, RegistryClient(target.registry) as there:
        digest = push_image(here, NAME).digest
        copy_image(here, NAME, digest, there, NAME)
        before = len(source.requests + target.requests)

        copy_image(here, NAME, digest, there, NAME)

    assert len(source.requests + target.requests) - before == 3


def test_each_byte_is_moved_once(source: MemoryRegistry, target: MemoryRegistry) -> None:
    """A cold copy reads each blob once, writes it once, and checks before sending."""
    with RegistryClient(source.registry) as here, RegistryClient(target.registry) as there:
        digest = index_of_three(here)
        size = sum(map(len, source.blobs.values()))
        source.given = 0
        source.requests.clear()

        result = copy_image(here, NAME, digest, there, NAME)

    assert (source.given, target.received, result.bytes, result.resent) == (size, size, size, 0)
    # Per blob HEAD, POST, PUT and HEAD; per manifest GET, PUT and HEAD.
    assert len(target.requests) == 9 * 4 + 4 * 3
    # The source: a GET for each, and two to learn that there are no referrers.
    assert len(source.requests) == 9 + 4 + 2


def test_two_targets_are_served_by_one_read(source: MemoryRegistry) -> None:
    """A blob that both targets lack is read once and written twice."""
    with ExitStack() as stack:
        regions = [stack.enter_context(memory_registry()) for _ in range(2)]
        here = stack.enter_context(RegistryClient(source.registry))
        digest = index_of_three(here)
        size = sum(map(len, source.blobs.values()))
        source.given = 0
        places = [Place(stack.enter_context(RegistryClient(one.registry)), NAME) for one in regions]

        with Copier(Place(here, NAME), places) as copier:
            outcomes = copier.run(copier.plan(digest))

    assert [one.error for one in outcomes] == [None, None]
    assert [one.received for one in regions] == [size, size]
    assert source.given == size


def test_two_repositories_of_a_registry_get_one_upload(
    source: MemoryRegistry, target: MemoryRegistry
) -> None:
    """The second repository mounts the blobs that the first received."""
    with RegistryClient(source.registry) as here, RegistryClient(target.registry) as there:
        digest = index_of_three(here)
        size = sum(map(len, source.blobs.values()))

        with Copier(Place(here, NAME), [Place(there, "eu/api"), Place(there, "eu/copy")]) as copier:
            outcomes = copier.run(copier.plan(digest))

    results = [one.result for one in outcomes]
    assert [(one.copied, one.mounted) for one in results if one] == [(9, 0), (0, 9)]
    assert target.received == size


def test_a_blob_of_another_repository_is_mounted(source: MemoryRegistry, target: MemoryRegistry) -> None:
    """A base image in another repository of the target registry is mounted; if the mount fails, it is uploaded."""
    with RegistryClient(source.registry) as here, RegistryClient(target.registry) as there:
        base, other = (push_image(here, NAME, seed=seed).digest for seed in (1, 2))
        copy_image(here, NAME, base, there, "base/image")
        place = Place(there, NAME, mount_from=("base/image",))

        with Copier(Place(here, NAME), [place]) as copier:
            first, second = (copier.run(copier.plan(one))[0].result for one in (base, other))

    assert first is not None
    assert second is not None
    assert (first.mounted, first.bytes) == (3, 0)
    assert (second.copied, second.mounted) == (3, 0)


def test_images_that_share_a_layer_send_it_once(source: MemoryRegistry, target: MemoryRegistry) -> None:
    """Two images of one run, copied at the same time, send their common layers once."""
    with RegistryClient(source.registry) as here, RegistryClient(target.registry) as there:
        one = push_image(here, NAME, seed=1, sizes=(500_000,))
        two = push_image(here, NAME, seed=1, sizes=(500_000, 70_000))

        with Copier(Place(here, NAME), [Place(there, NAME)]) as copier:
            plans = [copier.plan(image.digest) for image in (one, two)]
            results = [copier.run(plan)[0].result for plan in plans]

    assert [(done.copied, done.skipped) for done in results if done] == [(2, 0), (1, 2)]


def test_a_manifest_is_taken_at_its_word_unless_asked(source: MemoryRegistry, target: MemoryRegistry) -> None:
    """If a target lost a blob of an existing manifest, only `thorough` repairs that."""
    with RegistryClient(source.registry) as here, RegistryClient(target.registry) as there:
        digest = push_image(here, NAME).digest
        copy_image(here, NAME, digest, there, NAME)
        target.blobs.popitem()

        trusting = copy_image(here, NAME, digest, there, NAME)
        thorough = copy_image(here, NAME, digest, there, NAME, thorough=True)

    assert (trusting.copied, thorough.copied) == (0, 1)


@pytest.mark.parametrize("apis", [(True, False), (False, True), (True, True), (False, False)], ids=str)
def test_referrers_cross_between_api_and_fallback(apis: tuple[bool, bool]) -> None:
    """Reports, and their own referrers, are listed at the target, whichever way each side lists them."""
    with ExitStack() as stack:
        memories = [stack.enter_context(memory_registry(referrers=api)) for api in apis]
        here, there = (stack.enter_context(RegistryClient(one.registry)) for one in memories)
        image = push_image(here, NAME)
        report = attach(here, NAME, image, "x/report", b"{}", "application/json")
        signature = attach(here, NAME, report, "x/signature", b"sig", "x/sig")

        first, second = (copy_image(here, NAME, image.digest, there, "to") for _ in range(2))

        assert (first.referrers, second.referrers, second.bytes) == (2, 2, 0)
        assert [one.digest for one in list_referrers(there, "to", image.digest)] == [report.digest]
        assert [one.digest for one in list_referrers(there, "to", report.digest)] == [signature.digest]


def test_the_order_is_the_plan_with_one_worker(source: MemoryRegistry) -> None:
    """With one worker, the order of requests is always the same, largest blob first."""
    orders = []
    with RegistryClient(source.registry) as here:
        digest = index_of_three(here)
        for _ in range(2):
            with memory_registry() as target, RegistryClient(target.registry) as there:
                with Copier(Place(here, NAME), [Place(there, NAME)], workers=1) as copier:
                    plan = copier.plan(digest)
                    copier.run(plan)
                orders.append([re.sub(r"\?.*|(?<=uploads/)\d+", "", one) for one in target.requests])

    assert orders[0] == orders[1]
    sizes = [blob.size for blob in plan.targets[0].blobs]
    assert sizes == sorted(sizes, reverse=True)


def test_no_more_requests_at_once_than_allowed(source: MemoryRegistry, target: MemoryRegistry) -> None:
    """The limit applies per registry, however many blobs wait."""
    limits = Limits(requests=2)
    with RegistryClient(source.registry) as here, RegistryClient(target.registry) as there:
        digest = index_of_three(here)
        source.most_at_once = 0

        with Copier(Place(here, NAME), [Place(there, NAME)], workers=8, limits=limits) as copier:
            copier.run(copier.plan(digest))

    assert (source.most_at_once <= 2, target.most_at_once <= 2) == (True, True)


def test_a_plan_says_what_is_missing_and_sends_nothing(
    source: MemoryRegistry, target: MemoryRegistry
) -> None:
    """The plan as JSON names each blob and manifest that the target lacks."""
    with RegistryClient(source.registry) as here, RegistryClient(target.registry) as there:
        digest = push_image(here, NAME, sizes=(10, 300)).digest
        with Copier(Place(here, NAME), [Place(there, NAME)]) as copier:
            document = copier.plan(digest).to_json()

    (row,) = document["targets"]
    assert (document["digest"], row["in_sync"]) == (digest, False)
    assert next(one["size"] for one in row["blobs"]) == 300
    assert [one["digest"] for one in row["manifests"]] == [digest]
    assert target.received == 0


def test_memory_does_not_grow_with_the_layers(
    oci_client: RegistryClient, oci_target: RegistryClient, oci_repository: str
) -> None:
    """A copy of 100 MB in four layers at once takes less than 64 MB beyond the interpreter and its modules."""
    digest = push_image(oci_client, oci_repository, sizes=(25_000_000,) * 4).digest
    script = f"""
import resource, sys
from delivery_chain.core.names.registry import Registry
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.copy.api import copy_image
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
source, target = (RegistryClient(Registry(host=host, plain_http=True)) for host in sys.argv[1:3])
assert copy_image(source, {oci_repository!r}, {digest!r}, target, {oci_repository!r}).bytes > 100_000_000
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    hosts = [oci_client.registry.host, oci_target.registry.host]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "plugins")}

    done = subprocess.run(
        [sys.executable, "-c", script, *hosts], check=True, capture_output=True, timeout=60, env=environment
    )

    assert int(done.stdout) < 64 * 1024
