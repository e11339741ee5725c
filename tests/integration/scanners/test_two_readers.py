"""The real Trivy sees what runtimes unpack: bytes that different readers unpack differently do not pass."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest
import zstandard

from delivery_chain.core.names.reference import sha256_digest
from delivery_chain.errors import DeliveryChainError, ScanFailed
from delivery_chain.oci.client import RegistryClient
from delivery_chain.sandbox import vulndb
from support.image_trees import archive
from support.oci_registry import docker_registry
from support.scan_images import CLEAN, LAYER, OLD, push_files, python_package
from support.trivy_bench import BUILT, Bench
from support.two_readers import push_raw, tar_and_gzip, tar_and_zstd, two_faced

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

PLAIN = "application/vnd.oci.image.layer.v1.tar"
DOCKER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
CLEAN_TAR, OLD_TAR, NO_FILE = archive(CLEAN), archive(OLD), archive({})
CLEAN_ID, OLD_ID = sha256_digest(CLEAN_TAR), sha256_digest(OLD_TAR)


def packed(tar: bytes) -> bytes:
    return gzip.compress(tar, mtime=0)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("readers")
    (folder / "registry").mkdir()
    with docker_registry(folder / "registry") as registry, RegistryClient(registry) as client:
        vulndb.publish_sample_database(client, now=BUILT)
        yield Bench(client, folder / "cache")


def test_layers_that_share_a_name_in_the_config_are_each_looked_at(bench: Bench) -> None:
    """Trivy takes the first of them for all: here a whiteout that occurs twice, with a layer in between."""
    hides, between = archive({"app/.wh..wh..opq": ""}), archive(python_package("Jinja2", "2.10"))
    layers = [(tar, sha256_digest(tar)) for tar in (CLEAN_TAR, hides, between)]
    digest = push_raw(
        bench.client,
        "demo/twice",
        [*((packed(tar), name) for tar, name in layers), (packed(NO_FILE), sha256_digest(hides))],
    )

    with pytest.raises(ScanFailed, match="but the image's config says"):
        bench.scan("demo/twice", digest)


def test_a_layer_that_says_that_it_is_small_is_looked_at(bench: Bench) -> None:
    """Registries accept any size in a manifest."""
    layers = [(packed(CLEAN_TAR), CLEAN_ID), (packed(OLD_TAR), CLEAN_ID)]
    digest = push_raw(bench.client, "demo/small", layers, sizes={1: 10})

    with pytest.raises(DeliveryChainError, match="expected 10 bytes"):
        bench.scan("demo/small", digest)


@pytest.mark.parametrize("media_type", [PLAIN, f"{PLAIN}+zstd", LAYER, DOCKER])
@pytest.mark.parametrize("said", [OLD_ID, "of the bytes"])
def test_a_tar_that_is_also_packed_with_zstd_is_refused(bench: Bench, media_type: str, said: str) -> None:
    """Containerd and Docker start at a frame that zstd skips; Trivy reads it as a tar."""
    layer = tar_and_zstd(CLEAN_TAR, OLD_TAR)
    digest = push_raw(
        bench.client,
        "demo/zstd",
        [(layer, sha256_digest(layer) if said == "of the bytes" else said)],
        types={0: media_type},
    )

    with pytest.raises(ScanFailed, match="compression that runtimes and scanners read differently"):
        bench.scan("demo/zstd", digest)


def test_a_tar_that_is_also_packed_with_gzip_is_refused(bench: Bench) -> None:
    """Containerd trusts the media type, Trivy the first bytes."""
    layer = tar_and_gzip(OLD_TAR, CLEAN_TAR)
    assert gzip.decompress(layer) == CLEAN_TAR
    digest = push_raw(bench.client, "demo/gzip", [(layer, sha256_digest(layer))], types={0: PLAIN})

    with pytest.raises(ScanFailed, match="but the image's config says"):
        bench.scan("demo/gzip", digest)


@pytest.mark.parametrize(
    "layer",
    [
        zstandard.ZstdCompressor().compress(OLD_TAR) + b"\x50\x2a\x4d\x18\x04\0\0\0more",
        zstandard.ZstdCompressor().compress(OLD_TAR[:1024])
        + zstandard.ZstdCompressor().compress(OLD_TAR[1024:]),
        packed(OLD_TAR[:1024]) + packed(OLD_TAR[1024:]),
        OLD_TAR,
    ],
    ids=["zstd:chunked", "zstd in parts", "gzip in parts, as estargz", "not packed, said to be"],
)
def test_what_everybody_reads_alike_is_scanned(bench: Bench, layer: bytes) -> None:
    """As tools write them: several frames or members, followed by a table of contents."""
    digest = push_raw(bench.client, "demo/alike", [(layer, OLD_ID)])

    assert len(bench.scan("demo/alike", digest).report.findings) == 10


def test_a_registry_that_sends_trivy_other_bytes_is_caught(bench: Bench) -> None:
    """Trivy scans the digest's bytes or fails; padding keeps the length stated in the manifest."""
    digest = push_files(bench.client, "demo/faces", OLD)
    layer = bench.client.get_manifest("demo/faces", digest).blobs[1]
    other = packed(CLEAN_TAR).ljust(layer.size, b"\0")

    with (
        two_faced(bench.registry, layer.digest, other) as registry,
        pytest.raises(ScanFailed, match="error verifying sha256 checksum"),
    ):
        bench.scan("demo/faces", digest, registry=registry)
