"""Trees of images in a real registry, scanned by the real Trivy: the verdict of a run for each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from delivery_chain.core.gate.judge import judge
from delivery_chain.core.spec.scan import Scan
from delivery_chain.errors import DeliveryChainError, ProtocolViolation, ScanFailed
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.inventory import inventory
from delivery_chain.sandbox import vulndb
from delivery_chain.scanners.interface import ImageRef, Workplace
from delivery_chain.scanners.trivy.options import TrivyOptions
from delivery_chain.scanners.trivy.scanner import TrivyScanner
from support.image_trees import IN_TOTO, UNKNOWN, ZSTD, Entry, Forest, attests
from support.oci_registry import docker_registry
from support.scan_images import CLEAN, OLD
from support.sections import section

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

BUILT = datetime(2026, 11, 20, 12, tzinfo=UTC)
NOW = BUILT + timedelta(hours=1)
SCAN = Scan.model_validate({"block": {"severity": "high"}})
NAME = "demo/trees"


@pytest.fixture(scope="module")
def say(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Callable[[Forest], Entry]], str]]:
    """Pushes a tree to a registry, scans every image in it, and returns the verdict's sentence."""
    folder: Path = tmp_path_factory.mktemp("trees")
    (folder / "registry").mkdir()
    with docker_registry(folder / "registry") as registry, RegistryClient(registry) as client:
        vulndb.publish_sample_database(client, now=BUILT)
        options = TrivyOptions(db_repository=f"{registry.host}/aquasecurity/trivy-db:2", wheel=True)
        scanner = TrivyScanner(clock=lambda: NOW)
        workplace = Workplace(folder, section(trivy_cache_dir=folder / "cache"))

        def run(make: Callable[[Forest], Entry]) -> str:
            forest = Forest()
            digest = forest.upload(client, NAME, "v1", make(forest))
            images, _ = inventory(client, NAME, digest)
            ready = scanner.prepare(options, workplace, seconds=60, log=print)
            reports = [
                scanner.scan(
                    ImageRef(registry, NAME, image.digest), image.platform, ready, seconds=60, log=print
                ).report
                for image in images
            ]
            verdict = judge(SCAN, reports, digest=digest, images=images, repository="trees", now=NOW)
            return verdict.sentence

        yield run


def clean(forest: Forest, platform: str = "linux/amd64") -> Entry:
    return forest.image(CLEAN, platform)


BLOCKED: dict[str, Callable[[Forest], Entry]] = {
    "two of one platform": lambda f: f.index(clean(f), f.image(OLD)),
    "the second first": lambda f: f.index(f.image(OLD), clean(f)),
    "a zstd variant": lambda f: f.index(clean(f), f.image(OLD) | {"annotations": ZSTD}),
    "another os.version": lambda f: f.index(
        clean(f),
        f.image(OLD, said={"os": "linux", "architecture": "amd64", "os.version": "1", "os.features": ["x"]}),
    ),
    "an unknown platform": lambda f: f.index(clean(f), f.image(OLD, "unknown/unknown")),
    "an unknown platform in the index alone": lambda f: f.index(clean(f), f.image(OLD, said=UNKNOWN)),
    "half an attestation": lambda f: f.index(
        image := clean(f),
        f.image(OLD, "unknown/unknown", layer_type=IN_TOTO) | {"annotations": attests(image)},
    ),
    "an index in an index": lambda f: f.index(clean(f), f.index(f.image(OLD, "linux/riscv64"))),
    "another platform": lambda f: f.index(clean(f), f.image(OLD, "linux/s390x")),
}


@pytest.mark.parametrize("case", BLOCKED)
def test_a_bad_image_blocks_wherever_it_is_in_the_tree(
    say: Callable[[Callable[[Forest], Entry]], str], case: str
) -> None:
    """A clean image next to it hides nothing."""
    assert say(BLOCKED[case]).startswith("blocked: ")


def test_an_official_image_passes(say: Callable[[Callable[[Forest], Entry]], str]) -> None:
    """With platforms that no build has, and attestations next to them."""
    platforms = (
        "linux/amd64",
        "linux/arm64",
        "linux/s390x",
        "linux/ppc64le",
        "linux/riscv64",
        "linux/arm/v5",
    )

    def official(forest: Forest) -> Entry:
        images = [clean(forest, platform) for platform in platforms]
        return forest.index(*images, *(forest.attestation(image) for image in images))

    assert say(official) == "passed with no findings"


REFUSED: dict[str, tuple[Callable[[Forest], Entry], type[DeliveryChainError], str]] = {
    "a child of an unknown type": (
        lambda f: f.index(clean(f), f.image(OLD) | {"mediaType": "application/x-foo"}),
        ProtocolViolation,
        "'application/x-foo' is neither an image nor proven not to be one",
    ),
    "a manifest for a layer": (
        lambda f: f.index(
            clean(f), f.image(OLD) | {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip"}
        ),
        DeliveryChainError,
        "",
    ),
    "a config that docker takes for an image's": (
        lambda f: f.index(clean(f), f.image(OLD, config_type="application/octet-stream")),
        ScanFailed,
        'unsupported artifact type "application/octet-stream"',
    ),
    "an image that says it is a chart": (
        lambda f: f.index(clean(f), f.image(OLD, config_type="application/x-chart")),
        ScanFailed,
        'unsupported artifact type "application/x-chart"',
    ),
    "a Docker plugin": (
        lambda f: f.index(
            clean(f), f.image(OLD, docker=True, config_type="application/vnd.docker.plugin.v1+json")
        ),
        ScanFailed,
        "unsupported artifact type",
    ),
    "a Windows image": (
        lambda f: f.index(
            clean(f),
            f.image({"Files/Windows/a.dll": "MZ"}, "windows/amd64", more={"os.version": "10.0.1"}),
        ),
        ScanFailed,
        "unsupported_os: windows/amd64",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_nobody_looked_at_is_no_pass(say: Callable[[Callable[[Forest], Entry]], str], case: str) -> None:
    """And the refusal names it."""
    make, error, message = REFUSED[case]
    with pytest.raises(error) as caught:
        say(make)
    assert message in str(caught.value)
