"""The tree below a digest: every image is found, and nothing counts as "no image" without a proof."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest

from delivery_chain.errors import NotFound, ProtocolViolation
from delivery_chain.oci.inventory import take_inventory
from delivery_chain.oci.manifest import DOCKER_LIST, OCI_INDEX, OCI_MANIFEST
from support.image_trees import HELM_CONFIG, IN_TOTO, LAYER, UNKNOWN, ZSTD, Entry, Forest, archive, attests

Make = Callable[[Forest], tuple[Entry, list[Entry], list[tuple[Entry, str]]]]
TAR = gzip.compress(archive({"bin/sh": "#!"}), mtime=0)


def found(forest: Forest, root: Entry) -> tuple[list[tuple[str, str]], dict[str, str]]:
    images, others = take_inventory("shop/api", forest.fetch, forest.content(), root["digest"])
    return [(one.digest, one.platform) for one in images], {one.digest: one.what for one in others}


@pytest.mark.parametrize(
    "platform",
    ["linux/amd64", "linux/s390x", "linux/arm/v5", "linux/amd64/v3", "windows/amd64", "unknown/unknown"],
)
def test_a_single_image_is_found_with_its_platform(platform: str) -> None:
    """By its own config, whatever it says."""
    forest = Forest()
    image = forest.image(platform=platform)
    assert found(forest, image) == ([(image["digest"], platform)], {})


def second(**fields: Any) -> Callable[[Forest], Entry]:
    return lambda forest: forest.image({"b": "second"}, **fields)


@pytest.mark.parametrize(
    "make",
    [
        second(),
        second(docker=True),
        second(said={"os": "linux", "architecture": "amd64", "os.version": "1", "os.features": ["x"]}),
        second(said=UNKNOWN),
        second(platform="unknown/unknown"),
        second(config_type="application/octet-stream"),
        second(config_type="application/json"),
        second(config_type="text/html"),
        second(config_type=HELM_CONFIG),
        second(config_type=HELM_CONFIG, artifactType="application/vnd.cncf.helm.config.v1+json"),
        second(config_type="application/vnd.docker.plugin.v1+json", docker=True),
        second(config_type=f"{HELM_CONFIG}; x", more={"ROOTFS": 1}),
        second(layer_type=IN_TOTO),
        second(layer_type="application/vnd.dev.cosign.simplesigning.v1+json"),
        lambda forest: forest.image({"b": "x"}) | {"annotations": ZSTD},
        lambda forest: forest.image({"b": "x"}) | {"platform": None},
        lambda forest: forest.signature(forest.image()),
        lambda forest: forest.manifest(forest.blob(b'{"os": "linux", "architecture": "amd64"}', OCI_CONFIG)),
    ],
    ids=str,
)
def test_whatever_is_not_proven_to_be_none_is_an_image(make: Callable[[Forest], Entry]) -> None:
    """Two of one platform, no platform, odd types of config and layers: each may be what somebody pulls."""
    forest = Forest()
    first, other = forest.image({"a": "first"}), make(forest)
    images, others = found(forest, forest.index(first, other))
    assert ([digest for digest, _ in images], others) == ([first["digest"], other["digest"]], {})


OCI_CONFIG = "application/vnd.oci.image.config.v1+json"


def test_an_attestation_is_proven_by_all_that_makes_one() -> None:
    """Annotation, config and layers."""
    forest = Forest()
    image = forest.image()
    attestation = forest.attestation(image)
    assert found(forest, forest.index(image, attestation)) == (
        [(image["digest"], "linux/amd64")],
        {attestation["digest"]: "attestation"},
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda forest, image: forest.image({"b": "x"}, "unknown/unknown") | {"annotations": attests(image)},
        lambda forest, image: forest.attestation(image, layer=TAR),
        lambda forest, image: forest.attestation(image, layer_type=LAYER),
        lambda forest, image: forest.attestation(image, platform="linux/amd64"),
        lambda forest, image: forest.attestation(image) | {"annotations": {}},
        lambda forest, image: forest.attestation({"digest": "sha256:" + "0" * 64}),
        lambda forest, image: forest.attestation(image, layer=b'{"a": 1} '[:-1] + b"\0"),
        lambda forest, image: forest.attestation(image, layer=b"[]"),
    ],
    ids=[
        "an image that says so",
        "an archive for a statement",
        "an image's layer",
        "a config with a platform",
        "no annotation",
        "about something else",
        "no JSON",
        "no object",
    ],
)
def test_half_an_attestation_is_an_image(make: Callable[[Forest, Entry], Entry]) -> None:
    """Each part alone is written by whoever pushes."""
    forest = Forest()
    image = forest.image()
    fake = make(forest, image)
    images, others = found(forest, forest.index(image, fake))
    assert ([digest for digest, _ in images], others) == ([image["digest"], fake["digest"]], {})


def test_an_attestation_that_is_listed_twice_counts_as_what_it_is_worst() -> None:
    """Once annotated, once as an image: then it is one."""
    forest = Forest()
    image = forest.image()
    attestation = forest.attestation(image)
    plain = {key: value for key, value in attestation.items() if key != "annotations"}
    images, others = found(forest, forest.index(image, attestation, plain))
    assert ([digest for digest, _ in images], others) == ([image["digest"], attestation["digest"]], {})


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (Forest.chart, f"artifact {HELM_CONFIG}"),
        (Forest.wasm, "artifact application/vnd.wasm.config.v0+json"),
        (Forest.files, "artifact application/vnd.unknown.artifact.v1"),
        (
            lambda forest: forest.signature(forest.image()),
            "signature application/vnd.dev.cosign.simplesigning.v1+json",
        ),
    ],
)
def test_artifacts_are_proven_by_their_config(make: Callable[[Forest], Entry], what: str) -> None:
    """No runtime takes them for an image, and nothing in them could be unpacked as one."""
    forest = Forest()
    artifact = make(forest)
    assert found(forest, artifact) == ([], {artifact["digest"]: what})


def test_a_build_cache_is_no_image() -> None:
    """BuildKit keeps layers as children of an index."""
    forest = Forest()
    assert sorted(found(forest, forest.build_cache())[1].values()) == ["build cache", "layer"]


def test_indexes_in_indexes_are_looked_through() -> None:
    """Also where two hold the same image, and where one is of Docker's type."""
    forest = Forest()
    images = [forest.image({"n": str(number)}) for number in range(3)]
    inner = forest.index(images[1], images[0])
    docker = forest.index(forest.image({"n": "d"}, docker=True), media_type=DOCKER_LIST)
    root = forest.index(images[0], inner, forest.index(inner, images[2]), docker)
    found_images, others = found(forest, root)
    assert len(found_images) == 4
    assert list(others.values()) == ["index", "index", "index"]


def deep(forest: Forest) -> Entry:
    entry = forest.index(forest.image())
    for _ in range(5):
        entry = forest.index(entry)
    return entry


def hidden_in_a_layer(forest: Forest) -> Entry:
    """Some registries serve any blob as a manifest if its bytes are one."""
    inner = forest.image()
    raw = forest.manifests[inner["digest"]][1]
    return forest.index(forest.image({"a": "1"}), forest.blob(raw, LAYER))


NEITHER = {
    "unknown type": (
        lambda forest: forest.index(
            forest.image(), forest.image({"b": ""}) | {"mediaType": "application/x-foo"}
        ),
        "'application/x-foo' is neither an image nor proven not to be one",
    ),
    "unknown blob": (
        lambda forest: forest.index(forest.image(), forest.blob(b"x", "application/octet-stream")),
        "is neither an image nor proven not to be one",
    ),
    "a manifest for a layer": (hidden_in_a_layer, "is neither an image nor proven not to be one"),
    "another type": (
        lambda forest: forest.index(forest.image(), forest.image({"b": ""}) | {"mediaType": OCI_INDEX}),
        "expected media type",
    ),
    "another size": (
        lambda forest: forest.index(forest.image(), forest.image({"b": ""}) | {"size": 1}),
        "expected 1 bytes for",
    ),
    "nothing": (lambda forest: forest.index(), "an empty index"),
    "too deep": (deep, "at most 4 levels of nested indexes"),
    "a child that is not there": (
        lambda forest: forest.index({"mediaType": OCI_MANIFEST, "digest": "sha256:" + "0" * 64, "size": 1}),
        "no manifest sha256:000",
    ),
    "a config that is none": (
        lambda forest: forest.manifest(forest.blob(b"no JSON", OCI_CONFIG)),
        "expected a JSON object",
    ),
}


@pytest.mark.parametrize("case", NEITHER)
def test_what_is_neither_is_refused_by_name(case: str) -> None:
    """Nothing is left out in silence."""
    make, message = NEITHER[case]
    forest = Forest()
    with pytest.raises((NotFound, ProtocolViolation)) as caught:
        found(forest, make(forest))
    assert message in str(caught.value)


def test_a_platform_is_the_configs_with_the_variant_of_the_index() -> None:
    """A config may leave the variant out; an index may lie about the rest."""
    forest = Forest()
    entries = [
        forest.image({"n": "1"}, "linux/arm", said={"os": "linux", "architecture": "arm", "variant": "v5"}),
        forest.image({"n": "2"}, "linux/arm64", said={"os": "linux", "architecture": "amd64"}),
        forest.image({"n": "3"}, "bad os!/amd64"),
        forest.image({"n": "4"}, "unknown/unknown", said={"os": "linux", "architecture": "riscv64"}),
    ]
    images, _ = found(forest, forest.index(*entries))
    assert [platform for _, platform in images] == [
        "linux/arm/v5",
        "linux/arm64",
        "unknown/amd64",
        "linux/riscv64",
    ]


def test_large_statements_are_not_read_to_prove_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is beyond the limit counts as an image."""
    forest = Forest()
    image = forest.image()
    attestation = forest.attestation(image, layer=json.dumps({"a": "x" * 100}).encode())
    monkeypatch.setattr("delivery_chain.oci.non_images.MAX_STATEMENT", 50)
    assert len(found(forest, forest.index(image, attestation))[0]) == 2
