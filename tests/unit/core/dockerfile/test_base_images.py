"""The images that a Dockerfile needs, under the names that buildah looks up in its storage."""

from __future__ import annotations

import pytest

from delivery_chain.core.dockerfile.base_images import mounts, needs
from delivery_chain.core.dockerfile.instructions import instructions
from delivery_chain.errors import BuildFailed

NEEDED = [
    pytest.param("FROM debian:12", ["debian:12"], id="one"),
    pytest.param("FROM scratch", [], id="scratch"),
    pytest.param("ARG V=12\nFROM debian:$V", ["debian:12"], id="default of ARG"),
    pytest.param("ARG BASE=debian\nFROM $BASE", ["evil"], id="argument from outside"),
    pytest.param("ARG A=1\nARG B=x-$A\nFROM i:${B}", ["i:x-1"], id="ARG of ARG"),
    pytest.param("ARG TARGETARCH\nFROM i-$TARGETARCH", ["i-arm64"], id="platform's arguments"),
    pytest.param("FROM i:$UNKNOWN", ["i:"], id="unknown variable"),
    pytest.param("FROM i:${UNKNOWN:-3}", ["i:3"], id="default in the word"),
    pytest.param("FROM a AS x\nFROM x", ["a"], id="stage"),
    pytest.param("FROM a\nFROM b\nCOPY --from=0 / /", ["a", "b"], id="stage by number"),
    pytest.param("FROM a AS x\nFROM b\nCOPY --from=x / /", ["a", "b"], id="COPY of a stage"),
    pytest.param("FROM a AS x\nFROM b", ["b"], id="a stage that nobody needs"),
    pytest.param("FROM b\nCOPY --from=c:1 / /", ["b", "c:1"], id="COPY of an image"),
    pytest.param("FROM b\nADD --from=c:1 / /", ["b", "c:1"], id="ADD of an image"),
    pytest.param("FROM b\nRUN --mount=type=bind,from=c,target=/c x", ["b", "c"], id="mount of an image"),
    pytest.param(
        "FROM b\nRUN --mount=from=c,target=/c --mount=from=d,target=/d x", ["b", "c", "d"], id="mounts"
    ),
    pytest.param("FROM b\nARG I=c\nCOPY --from=$I / /", ["b", "c"], id="ARG in COPY"),
    pytest.param("ARG I=c\nFROM b\nARG I\nCOPY --from=$I / /", ["b", "c"], id="heading ARG in COPY"),
    pytest.param("FROM b\nENV I=c\nCOPY --from=$I / /", ["b"], id="ENV in COPY"),
    pytest.param("FROM b\nENV I=c\nRUN --mount=from=$I,target=/x y", ["b", "c"], id="ENV in a mount"),
    pytest.param("FROM b\nENV I c\nRUN --mount=from=$I,target=/x y", ["b", "c"], id="old ENV in a mount"),
    pytest.param("FROM b\nARG I=c\nENV I=d\nRUN --mount=from=$I,target=/x y", ["b", "d"], id="ENV over ARG"),
    pytest.param("from a As x\nfrom x", ["a"], id="cases of instructions"),
    pytest.param("FROM --platform=linux/s390x a", ["a"], id="platform"),
    pytest.param("FROM a@sha256:" + "0" * 64, ["a@sha256:" + "0" * 64], id="digest"),
    pytest.param(
        "FROM redis AS app\nFROM other AS redis\nCOPY --from=app / /",
        ["redis", "other"],
        id="stage named like a base",
    ),
    pytest.param("FROM \\\n  a", ["a"], id="continued"),
]


@pytest.mark.parametrize(("text", "expected"), NEEDED)
def test_names(text: str, expected: list[str]) -> None:
    """In the order of the Dockerfile."""
    assert [need.name for need in needs(text, {"BASE": "evil"}, "linux/arm64")] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM --platform=linux/s390x a", "linux/s390x"),
        ("FROM --platform=$BUILDPLATFORM a", ""),
        ("FROM --platform=$TARGETPLATFORM a", "linux/arm64"),
    ],
)
def test_platform(text: str, expected: str) -> None:
    """buildah 1.28 knows the target's, not its own."""
    assert [need.platform for need in needs(text, {}, "linux/arm64")] == [expected]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "FROM a AS Build\nFROM b\nCOPY --from=build / /",
            "looks like the stage 'Build' of line 1",
            id="COPY",
        ),
        pytest.param("FROM a AS build\nFROM BUILD", "looks like the stage 'build'", id="FROM"),
        pytest.param(
            "FROM a AS build\nFROM b\nRUN --mount=from=Build,target=/x y",
            "Dockerfile:3: RUN .*stage 'build'",
            id="mount",
        ),
        pytest.param(
            "FROM a\nCOPY --from=late / /\nFROM b AS late\nCOPY --from=0 / /", "comes later", id="later"
        ),
        pytest.param("FROM a\nCOPY --from=7 / /", "expected one of the stages before it", id="number"),
    ],
)
def test_names_that_are_nearly_stages(text: str, message: str) -> None:
    """They are not taken for images that anybody may have put into a registry."""
    with pytest.raises(BuildFailed, match=message):
        needs(text, {}, "linux/amd64")


def test_mounts_of_triggers_count() -> None:
    """ONBUILD RUN has mounts as RUN has."""
    found = mounts(
        instructions("FROM a\nONBUILD RUN --mount=type=cache,target=/c x\nRUN --mount=target=/d y")
    )
    assert [(mount.line, mount.options) for mount in found] == [
        (2, (("type", "cache"), ("target", "/c"))),
        (3, (("target", "/d"),)),
    ]
