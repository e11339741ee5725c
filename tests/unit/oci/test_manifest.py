"""Manifests are parsed strictly, kept byte for byte and built deterministically."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_chain.core.names.reference import sha256_digest
from delivery_chain.errors import ProtocolViolation
from delivery_chain.oci.manifest import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    MAX_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    build_artifact_manifest,
    build_index,
    parse_manifest,
)

A = "sha256:" + "a" * 64
B = "sha256:" + "b" * 64
CONFIG = {"mediaType": OCI_CONFIG, "digest": A, "size": 7}
LAYER = {"mediaType": "x/layer", "digest": B, "size": 9}


def image(**changes: Any) -> dict[str, Any]:
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": CONFIG, "layers": [LAYER], **changes}
    return {key: value for key, value in document.items() if value is not ...}


def encode(document: Any) -> bytes:
    return json.dumps(document).encode()


def test_an_image_manifest_is_read_whole() -> None:
    """Every part of an image manifest arrives in the value."""
    raw = encode(image(annotations={"k": "v"}, artifactType="x/y", subject=CONFIG))

    assert parse_manifest(raw, OCI_MANIFEST) == Manifest(
        raw=raw,
        digest=sha256_digest(raw),
        media_type=OCI_MANIFEST,
        config=Descriptor(OCI_CONFIG, A, 7),
        layers=(Descriptor("x/layer", B, 9),),
        subject=Descriptor(OCI_CONFIG, A, 7),
        artifact_type="x/y",
        annotations={"k": "v"},
    )


@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_LIST])
def test_an_index_is_read_whole(media_type: str) -> None:
    """Both kinds of index keep their children in order, with their platforms."""
    children = [{**LAYER, "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}}, CONFIG]
    raw = encode({"schemaVersion": 2, "mediaType": media_type, "manifests": children})

    found = parse_manifest(raw, media_type)

    assert isinstance(found, Index)
    assert [(child.digest, child.platform_name) for child in found.children] == [(B, "linux/arm64"), (A, "")]


def test_the_content_type_stands_in_for_a_missing_media_type() -> None:
    """OCI lets the media type be left out inside; then the registry's header counts."""
    found = parse_manifest(encode(image(mediaType=...)), f"{OCI_MANIFEST}; charset=utf-8")

    assert found.media_type == OCI_MANIFEST


REFUSED: dict[str, tuple[bytes, str, str]] = {
    "no JSON": (b"<html>", "", "expected a JSON object"),
    "not UTF-8": (b"\xff\xfe\xff", "", "expected a JSON object"),
    "a list": (b"[]", "", "found list"),
    "nested without end": (b'{"a":' * 100_000, "", "nesting too deep|JSON object"),
    "a key twice": (b'{"schemaVersion":2,"schemaVersion":2}', "", "duplicate key"),
    "NaN": (b'{"schemaVersion":NaN}', "", "JSON does not have"),
    "too large": (b" " * (MAX_MANIFEST + 1), "", "at most 4194304 bytes"),
    "schema 1": (
        encode({"schemaVersion": 1}),
        "application/vnd.docker.distribution.manifest.v1+json",
        "be copied",
    ),
    "schema 3": (encode(image(schemaVersion=3)), "", "schemaVersion 2, found 3"),
    "schema as text": (encode(image(schemaVersion="2")), "", "found str"),
    "schema as truth": (encode(image(schemaVersion=True)), "", "found bool"),
    "two types said": (encode(image()), DOCKER_MANIFEST, "the registry says"),
    "two images in one": (encode(image(manifests=[])), "", "two images"),
    "index with layers": (encode(image(mediaType=OCI_INDEX, manifests=[])), "", "two images"),
    "no config": (encode(image(config=...)), "", "config: expected a string for 'digest'"),
    "config a list": (encode(image(config=[])), "", "expected an object for 'config'"),
    "no layers": (encode(image(layers=...)), "", "list for 'layers', found nothing"),
    "layers an object": (encode(image(layers={})), "", "expected a list for 'layers'"),
    "a layer a string": (encode(image(layers=["x"])), "", r"layers\[0\]: expected a descriptor"),
    "too many layers": (encode(image(layers=[LAYER] * 1001)), "", "at most 1000"),
    "a wrong digest": (
        encode(image(layers=[{**LAYER, "digest": "sha256:../../x"}])),
        "",
        "digest 'sha256:../../x'",
    ),
    "md5": (encode(image(layers=[{**LAYER, "digest": "md5:" + "a" * 32}])), "", "digest 'md5"),
    "a negative size": (encode(image(layers=[{**LAYER, "size": -1}])), "", "0 or more for 'size'"),
    "a huge size": (encode(image(layers=[{**LAYER, "size": 2**60}])), "", "0 or more for 'size'"),
    "a size as text": (encode(image(layers=[{**LAYER, "size": "9"}])), "", "for 'size', found str"),
    "an annotation a number": (encode(image(annotations={"k": 1})), "", r"annotations\['k'\]"),
    "urls of numbers": (encode(image(layers=[{**LAYER, "urls": [1]}])), "", "strings in 'urls'"),
}


@pytest.mark.parametrize(("raw", "media_type", "message"), REFUSED.values(), ids=REFUSED)
def test_wrong_manifests_are_refused(raw: bytes, media_type: str, message: str) -> None:
    """A manifest of the wrong shape is a protocol violation that says what is wrong."""
    with pytest.raises(ProtocolViolation, match=message):
        parse_manifest(raw, media_type)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: (
            st.lists(x)
            | st.dictionaries(
                st.sampled_from(
                    ["config", "layers", "manifests", "digest", "size", "mediaType", "subject", "urls"]
                ),
                x,
            )
        ),
    )
)
def test_any_json_is_read_or_refused(value: Any) -> None:
    """No JSON makes the parser fail in another way than by refusing."""
    document = {**value, "schemaVersion": 2} if isinstance(value, dict) else value
    for media_type in (OCI_MANIFEST, OCI_INDEX):
        try:
            parse_manifest(encode(document), media_type)
        except ProtocolViolation:
            continue


def test_an_index_is_built_the_same_each_time() -> None:
    """The children keep the caller's order, annotations are sorted, and the bytes are fixed."""
    children = (
        Descriptor(OCI_MANIFEST, B, 2, platform={"os": "linux", "architecture": "arm64"}),
        Descriptor(OCI_MANIFEST, A, 1),
    )

    built = build_index(
        children, {"z": "1", "a": "é"}, Descriptor(OCI_MANIFEST, A, 1, annotations={"dropped": "yes"})
    )

    assert built.decode() == (
        '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":['
        f'{{"mediaType":"{OCI_MANIFEST}","digest":"{B}","size":2,"platform":{{"os":"linux","architecture":"arm64"}}}},'
        f'{{"mediaType":"{OCI_MANIFEST}","digest":"{A}","size":1}}],'
        f'"subject":{{"mediaType":"{OCI_MANIFEST}","digest":"{A}","size":1}},"annotations":{{"a":"é","z":"1"}}}}'
    )


def test_an_artifact_manifest_reads_back() -> None:
    """What is built for a referrer has the empty config, its subject, layer and type."""
    subject = Descriptor(OCI_MANIFEST, A, 1)
    raw = build_artifact_manifest("x/report", subject, (Descriptor("application/json", B, 2),), {"k": "v"})

    found = parse_manifest(raw, OCI_MANIFEST)

    assert found == Manifest(
        raw=raw,
        digest=sha256_digest(raw),
        media_type=OCI_MANIFEST,
        config=Descriptor("application/vnd.oci.empty.v1+json", sha256_digest(b"{}"), 2),
        layers=(Descriptor("application/json", B, 2),),
        subject=subject,
        artifact_type="x/report",
        annotations={"k": "v"},
    )
    assert found.descriptor() == Descriptor(
        OCI_MANIFEST, found.digest, len(raw), "x/report", annotations={"k": "v"}
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Layers", []),
        ("LAYERS", []),
        ("layer\N{LATIN SMALL LETTER LONG S}", []),
        ("Config", {}),
        ("MediaType", OCI_INDEX),
        ("fsLayers", []),
    ],
)
def test_a_key_that_some_read_as_another_is_refused(key: str, value: Any) -> None:
    """What is written in Go takes any letter case, and the last one wins: two programs would see two images."""
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": CONFIG,
        "layers": [LAYER],
        key: value,
    }
    with pytest.raises(ProtocolViolation):
        parse_manifest(encode(document))


@pytest.mark.parametrize("data", ["bm90IGl0", "???"])
def test_an_embedded_copy_of_other_bytes_is_refused(data: str) -> None:
    """Some would read it instead of what the digest stands for."""
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {**CONFIG, "data": data},
        "layers": [],
    }
    with pytest.raises(ProtocolViolation, match="'data'"):
        parse_manifest(encode(document))
