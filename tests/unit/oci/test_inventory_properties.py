"""For any tree: everything that a runtime could pull as an image is judged, or the gate does not pass.

The oracle below shares nothing with the code: it follows every digest that looks like a manifest, as those do who
believe no media type, and asks each runtime's own rule whether it would take what it finds for an image.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from delivery_chain.core.gate.findings import Database, ScanReport
from delivery_chain.core.gate.judge import judge
from delivery_chain.core.spec.scan import Scan
from delivery_chain.errors import DeliveryChainError, ScanFailed
from delivery_chain.oci.inventory import take_inventory
from delivery_chain.oci.manifest import DOCKER_CONFIG, DOCKER_LIST, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST
from support.image_trees import (
    CACHE_CONFIG,
    HELM_CONFIG,
    IN_TOTO,
    LAYER,
    UNKNOWN,
    ZSTD,
    Entry,
    Forest,
    archive,
    attests,
)

NOW = datetime(2026, 5, 20, tzinfo=UTC)
SCAN = Scan.model_validate({"block": {"severity": "high"}})
TAR = gzip.compress(archive({"bin/sh": "#!"}), mtime=0)

DOCKERS = {OCI_CONFIG, DOCKER_CONFIG, "application/octet-stream", "application/json", "text/html", ""}


def document(forest: Forest, digest: str) -> dict[str, Any] | None:
    """What a registry that serves any blob as a manifest would give."""
    raw = forest.manifests[digest][1] if digest in forest.manifests else forest.blobs.get(digest)
    try:
        found = json.loads(raw) if raw is not None else None
    except ValueError:
        return None
    return found if isinstance(found, dict) and "schemaVersion" in found else None


def below(forest: Forest, digest: str) -> set[str]:
    """Every digest that an index names, of manifests, indexes and blobs, and the digest itself."""
    seen: set[str] = set()
    waiting = [digest]
    while waiting:
        one = waiting.pop()
        if one not in seen:
            seen.add(one)
            waiting += [child["digest"] for child in (document(forest, one) or {}).get("manifests", ())]
    return seen


def unpacks(forest: Forest, layer: Entry) -> bool:
    raw = forest.blobs.get(layer["digest"], b"")
    try:
        with tarfile.open(fileobj=io.BytesIO(raw)) as archive_file:
            archive_file.getmembers()
    except (tarfile.TarError, EOFError, OSError):
        return False
    return True


def pullable(forest: Forest, digest: str) -> bool:
    """Whether some runtime would take it for an image, and could unpack it."""
    found = document(forest, digest)
    if found is None or "config" not in found:
        return False
    kind = found["config"]["mediaType"]
    docker = kind in DOCKERS
    podman = found["mediaType"] != OCI_MANIFEST or kind == OCI_CONFIG
    config = json.loads(forest.blobs[found["config"]["digest"]] or b"{}")
    kaniko = isinstance(config, dict) and "rootfs" in config
    return (docker or podman or kaniko) and all(unpacks(forest, layer) for layer in found["layers"])


Maker = Callable[[Forest, list[Entry]], Entry]
_PLATFORMS = st.sampled_from(
    ["linux/amd64", "linux/amd64", "linux/arm64", "linux/s390x", "windows/amd64", "unknown/unknown"]
)
_TYPES = st.sampled_from(
    [OCI_CONFIG, DOCKER_CONFIG, HELM_CONFIG, CACHE_CONFIG, "application/json", "application/octet-stream"]
)
_LAYERS = st.sampled_from([LAYER, IN_TOTO, "application/x-anything"])
_CHILD_TYPES = st.sampled_from(
    [OCI_MANIFEST, OCI_INDEX, DOCKER_LIST, LAYER, CACHE_CONFIG, "application/x-foo"]
)
_SAID = st.sampled_from([None, UNKNOWN, {"os": "linux", "architecture": "amd64", "os.version": "1"}])


@st.composite
def makers(draw: st.DrawFn) -> Maker:
    """How a child of an index is made, honest or not; some look at the children before it."""
    number = str(draw(st.integers(0, 3)))
    kind = draw(st.sampled_from(["image", "attestation", "artifact", "signature", "index", "again", "blob"]))
    platform, config, layer = draw(_PLATFORMS), draw(_TYPES), draw(_LAYERS)
    said, docker, odd = draw(_SAID), draw(st.booleans()), draw(st.integers(0, 7))
    inner = draw(st.lists(makers(), max_size=3)) if kind == "index" else []
    child_type = draw(_CHILD_TYPES)

    def make(forest: Forest, before: list[Entry]) -> Entry:  # noqa: PLR0911 - a table of kinds
        about = before[0] if before else forest.image({"about": number})
        if kind == "image":
            made = forest.image(
                {"n": number}, platform, docker=docker, config_type=config if odd < 4 else "", said=said,
                layer_type=layer if odd < 2 else "",
            )  # fmt: skip
            notes = [{}, ZSTD, attests(about), {"vnd.docker.reference.type": "attestation-manifest"}][odd % 4]
            return made | ({"annotations": notes} if notes else {})
        if kind == "attestation":
            return forest.attestation(
                about, layer=TAR if odd == 1 else None, layer_type=LAYER if odd == 2 else IN_TOTO,
                platform=platform if odd == 3 else "unknown/unknown",
            )  # fmt: skip
        if kind == "artifact":
            return [forest.chart, forest.files, forest.wasm][odd % 3]()
        if kind == "signature":
            return forest.signature(about, layer=TAR if odd == 1 else None)
        if kind == "index":
            return plant(forest, inner, media_type=DOCKER_LIST if docker else OCI_INDEX)
        if kind == "again":
            return about if odd < 4 else {**about, "mediaType": child_type}
        raw = [TAR, b"{}", forest.manifests.get(about["digest"], ("", b""))[1], b"text"][odd % 4]
        return forest.blob(raw, child_type)

    return make


def plant(forest: Forest, recipe: list[Maker], media_type: str = OCI_INDEX) -> Entry:
    """An index of what a recipe makes."""
    children: list[Entry] = []
    for make in recipe:
        children.append(make(forest, children))
    return forest.index(*children, media_type=media_type)


def report(digest: str) -> ScanReport:
    database = Database(repository="example.org/db:2", updated_at=NOW)
    return ScanReport(engine="trivy", engine_version="1", digest=digest, platform="", databases=(database,))


@settings(max_examples=3000, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(makers(), max_size=4), st.data())
def test_what_can_be_reached_is_judged_or_proven_to_be_no_image(
    recipe: list[Maker], data: st.DataObject
) -> None:
    """Else there is no pass."""
    forest = Forest()
    root = plant(forest, recipe)["digest"]
    try:
        images, others = take_inventory("shop/api", forest.fetch, forest.content(), root)
    except DeliveryChainError:
        return
    judged, proven = {image.digest for image in images}, {other.digest for other in others}
    reached = below(forest, root) - {root}
    assert judged | proven == reached
    assert not judged & proven
    assert {digest for digest in reached if pullable(forest, digest)} <= judged
    if judged:
        left_out = data.draw(st.sampled_from(sorted(judged)))
        try:
            judge(
                SCAN, [report(digest) for digest in judged - {left_out}], digest=root, images=images,
                repository="api", now=NOW,
            )  # fmt: skip
        except ScanFailed:
            return
        raise AssertionError("a pass without a look at every image")


@st.composite
def honest(draw: st.DrawFn) -> Maker:
    """A child as tools make them."""
    number, platform = str(draw(st.integers(0, 9))), draw(_PLATFORMS)
    kind = draw(st.sampled_from(["image", "attestation", "chart", "index"]))
    inner = draw(st.lists(honest(), min_size=1, max_size=3)) if kind == "index" else []

    def make(forest: Forest, before: list[Entry]) -> Entry:
        image = forest.image({"n": number}, platform)
        if kind == "attestation" and before:
            return forest.attestation(before[0])
        if kind == "chart":
            return forest.chart()
        return plant(forest, inner) if kind == "index" else image

    return make


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(honest(), min_size=1, max_size=5))
def test_honest_trees_are_understood(recipe: list[Maker]) -> None:
    """No image that a tool of today makes is refused, up to the depth that is allowed."""
    forest = Forest()
    root = plant(forest, recipe)["digest"]
    try:
        images, others = take_inventory("shop/api", forest.fetch, forest.content(), root)
    except DeliveryChainError as error:
        if "levels of nested indexes" not in str(error):
            raise
        return
    expected = {digest for digest in below(forest, root) if pullable(forest, digest)}
    assert {image.digest for image in images} == expected
    assert {other.digest for other in others} == below(forest, root) - {root} - expected
