"""Copies over connections that break or end at any byte: either everything arrives, or nothing does, with a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from delivery_chain.core.names.registry import Registry
from delivery_chain.errors import ContentMismatch, RegistryError, RegistryUnreachable
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.copy.digest_probe import Refusals
from delivery_chain.oci.copy.endpoint import Place
from support.oci_copies import LAYER, NAME, copied, whole
from support.oci_images import push_image
from support.oci_memory import LASTING, Fault, MemoryRegistry
from support.oci_proxy import Break, line_to

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.integration
HEAD = 4000
"""More bytes than all response heads of a copy together, and fewer than any range that is cut."""

CUTS = [1, 200, 70_000, 400_000, 1_000_000, LAYER - 1, LAYER + 100]


@pytest.mark.parametrize("after", CUTS)
@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_cut_source_goes_on_by_range(
    oci_client: RegistryClient, oci_target: RegistryClient, oci_repository: str, after: int, how: str
) -> None:
    """Wherever the source breaks off, the upload stays open, and received bytes are not fetched again."""
    digest = push_image(oci_client, oci_repository, sizes=(LAYER,)).digest
    with line_to(oci_client.registry) as line, line_to(oci_target.registry) as other:
        line.breaks.append(Break(up=False, after=after, how=how))
        result = copied(line.registry, other.registry, oci_repository, digest)

        assert line.broken == 1
        assert result.resent == 0
        # A reset discards what the client has not read yet: up to the size of its buffers.
        assert line.down < LAYER + HEAD + (0 if how == "close" else LAYER)
        assert other.up < LAYER + 3 * HEAD
    assert whole(oci_target, oci_repository, digest)


def test_a_source_that_breaks_again_and_again(
    oci_client: RegistryClient, oci_target: RegistryClient, oci_repository: str
) -> None:
    """Pieces of 150 kB, each over a connection of its own, still form one upload."""
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
    """docker-registry can't resume a broken upload: one blob is sent again, and no more than that."""
    digest = push_image(oci_client, oci_repository, sizes=(LAYER, 5000)).digest
    with line_to(oci_target.registry) as line:
        line.breaks.append(Break(up=True, after=after, how=how))
        result = copied(oci_client.registry, line.registry, oci_repository, digest)

        assert line.broken == 1
        assert result.resent <= LAYER
        assert line.up < 2 * LAYER + 5 * HEAD
    assert whole(oci_target, oci_repository, digest)


@pytest.mark.parametrize("cut", [2, 100_000, 700_000, LAYER - 1])
def test_a_cut_upload_goes_on_where_the_registry_can(
    source: MemoryRegistry, target: MemoryRegistry, cut: int
) -> None:
    """A registry that reports its offset gets the rest: its bytes are sent once, plus a few for the digest probe."""
    with RegistryClient(source.registry) as here:
        digest = push_image(here, NAME, sizes=(LAYER,)).digest
    before = target.received
    target.fail("PUT", ".*/uploads/.*", cut=cut, times=1)

    copied(source.registry, target.registry, NAME, digest)

    size = sum(map(len, target.blobs.values()))
    assert target.received - before in (size, size + len(b"wrong bytes"))
    with RegistryClient(target.registry) as there:
        assert whole(there, NAME, digest)


def test_no_byte_is_trusted_to_a_registry_that_checks_none(
    source: MemoryRegistry, target: MemoryRegistry
) -> None:
    """If wrong bytes are not rejected, a cut upload starts over, and everything is hashed here."""
    target.checks = False
    with RegistryClient(source.registry) as here:
        digest = push_image(here, NAME, sizes=(LAYER,)).digest
        layer = here.get_manifest(NAME, digest).blobs[1].digest
    target.fail("PUT", f".*{layer}", cut=700_000, times=1)
    source.fail("GET", f".*{layer}", times=1)
    source.fail("GET", f".*{layer}", change=lambda body: body[:-1] + b"x")

    with pytest.raises(ContentMismatch, match="discarded"):
        copied(source.registry, target.registry, NAME, digest)

    assert f"{NAME}@{layer}" not in target.blobs
    assert target.manifests == {}


def test_a_registry_is_asked_once_whether_it_checks(
    oci_client: RegistryClient, target: MemoryRegistry, oci_repository: str
) -> None:
    """docker-registry rejects wrong bytes; a registry that accepts them, or can't be probed, is not trusted."""
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


def test_the_next_attempt_goes_on_with_an_open_upload(source: MemoryRegistry, target: MemoryRegistry) -> None:
    """Uploads left open by a failed attempt are resumed by the next, and their bytes are not sent again."""
    size, cut, kept = 9_000_000, 6_000_000, Kept()
    with RegistryClient(source.registry) as here:
        digest = push_image(here, NAME, sizes=(size,)).digest
        layer = here.get_manifest(NAME, digest).blobs[1].digest
    target.fail("PUT", f".*/uploads/.*{layer}", cut=cut, times=1)
    # The registry goes down midway, for longer than a copy waits.
    away = Fault(503, headers={"Retry-After": "100"})
    target.on("HEAD", ".*", lambda: away if target.received > 5_000_000 else None, times=LASTING)

    with pytest.raises(RegistryError):
        copied(source.registry, target.registry, NAME, digest, resume=kept)
    target.turns.clear()
    open_now = dict(kept.state)
    result = copied(source.registry, target.registry, NAME, digest, resume=kept)

    assert len(open_now) == 1
    assert result.bytes <= size - cut + HEAD
    assert kept.state == {}


def test_a_state_that_is_no_use_is_thrown_away(source: MemoryRegistry, target: MemoryRegistry) -> None:
    """Uploads that no longer exist, or are at another host, cost a request and do no harm."""
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
    """A connection that is open but transfers nothing ends with the timeout, and the copy continues."""
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
    """The copy gives up: the error names the target, and nothing can be pulled there."""
    digest = push_image(oci_client, oci_repository, sizes=(LAYER,)).digest
    with line_to(oci_target.registry) as line:
        line.breaks.append(Break(up=True, after=200_000, times=1000))
        with pytest.raises(RegistryUnreachable, match=line.registry.host):
            copied(oci_client.registry, line.registry, oci_repository, digest)

    assert oci_target.head_manifest(oci_repository, digest) is None
