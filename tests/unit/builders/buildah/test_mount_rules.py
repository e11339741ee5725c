"""Mounts that an old buildah would let out of the build are refused before it starts."""

from __future__ import annotations

import pytest

from delivery_chain.builders.buildah.mount_rules import check_mounts
from delivery_chain.core.dockerfile.base_images import mounts
from delivery_chain.core.dockerfile.instructions import instructions
from delivery_chain.errors import BuildFailed

OLD, NEW, UNKNOWN = (1, 28, 2), (1, 39, 3), (0, 0, 0)


def check(text: str, version: tuple[int, int, int] = OLD) -> None:
    check_mounts(mounts(instructions(f"FROM a\n{text}\n")), version, "Dockerfile", {})


FINE = [
    "RUN --mount=type=cache,target=/root/.cache/pip x",
    "RUN --mount=type=cache,id=apt,target=/var/cache/apt,sharing=locked x",
    "RUN --mount=type=cache,id=a/b,target=/x,mode=0700,uid=1,gid=1 x",
    "RUN --mount=type=cache,target=/a x\nRUN --mount=type=cache,target=/a x",
    "RUN --mount=type=cache,target=/a x\nRUN --mount=type=cache,target=/ab x",
    "RUN --mount=type=bind,source=.,target=/src x",
    "RUN --mount=type=bind,from=build,source=/wheels,target=/wheels x",
    "RUN --mount=from=build,target=/b,ro x",
    "RUN --mount=type=tmpfs,target=/t x",
    "RUN --mount=type=secret,id=npm x",
    "RUN mount --mount=x",
    "RUN --network=none x",
    "RUN x",
]


@pytest.mark.parametrize("text", FINE)
def test_harmless(text: str) -> None:
    """What Dockerfiles have every day."""
    check(text)


REFUSED = [
    pytest.param("RUN --mount=type=cache,id=../../mnt/build,target=/x y", "CVE-2024-9675", id="id climbs"),
    pytest.param("RUN --mount=type=cache,id=a/../../x,target=/x y", "CVE-2024-9675", id="id climbs inside"),
    pytest.param("RUN --mount=type=cache,target=/../../x y", "CVE-2024-9675", id="target climbs"),
    pytest.param("RUN --mount=type=cache,id=ok,id=../x,target=/x y", "CVE-2024-9675", id="second id"),
    pytest.param("RUN --mount=id=../x,target=/x,type=cache y", "CVE-2024-9675", id="type last"),
    pytest.param(
        "RUN --mount=type=bind,type=cache,id=x,target=/x y", "one type for each mount", id="two types"
    ),
    pytest.param(
        "RUN --mount=type=cache,target=/x --mount=target=/y z",
        "one type for each mount",
        id="type of the mount before",
    ),
    pytest.param("RUN --mount=type=cache,id=/,target=/x y", "folder of all caches", id="all caches"),
    pytest.param("RUN --mount=type=cache,id=.,target=/x y", "folder of all caches", id="all caches as a dot"),
    pytest.param(
        "RUN --mount=type=cache,target=/x y\nRUN --mount=type=cache,target=/x/l y",
        "not inside it",
        id="nested",
    ),
    pytest.param(
        "RUN --mount=type=cache,id=a/l,target=/x y\nRUN --mount=type=cache,id=/a,target=/y y",
        "not inside it",
        id="nested ids",
    ),
    pytest.param(
        "RUN --mount=type=cache,from=e,source=/link,target=/x y", "without 'from'", id="cache of a stage"
    ),
    pytest.param("RUN --mount=type=cache,id=$ID,target=/x y", "without variables", id="variable"),
    pytest.param("RUN --mount=type=cache,id=${ID:-../x},target=/x y", "without variables", id="default"),
    pytest.param("RUN --mount=$M y", "without variables", id="all a variable"),
    pytest.param("RUN --mount=type=bind,from=e,source=/link,target=/x,rw y", "CVE-2024-1753", id="written"),
    pytest.param(
        "RUN --mount=type=bind,from=e,source=/link,target=/x,readwrite y", "CVE-2024-1753", id="readwrite"
    ),
    pytest.param(
        "RUN --mount=type=bind,source=link,target=/x,rw=true y", "CVE-2024-1753", id="context, written"
    ),
    pytest.param("RUN --mount=from=e,source=/link,target=/x,rw y", "CVE-2024-1753", id="no type"),
    pytest.param(
        "RUN --mount=type=bind,source=.,target=/x,bind-propagation=shared y",
        "CVE-2024-9407",
        id="propagation",
    ),
    pytest.param(
        "RUN --mount=type=bind,source=.,target=/x,rshared y", "CVE-2024-9407", id="propagation's short form"
    ),
    pytest.param("run --mount=type=cache,id=../x,target=/x y", "CVE-2024-9675", id="lowercase"),
    pytest.param("RUN \\\n  --mount=type=cache,\\\nid=../x,target=/x y", "CVE-2024-9675", id="continued"),
    pytest.param('RUN --mount="type=cache,id=../x",target=/x y', "CVE-2024-9675", id="quoted"),
    pytest.param("RUN --mo\\unt=type=cache,id=../x,target=/x y", "CVE-2024-9675", id="escaped"),
    pytest.param("RUN --mount='type=cache,id=.'./x,target=/x y", "CVE-2024-9675", id="quotes inside"),
    pytest.param("ONBUILD RUN --mount=type=cache,id=../x,target=/x y", "CVE-2024-9675", id="ONBUILD"),
    pytest.param("RUN $(x) \\\n\nRUN --mount=type=cache,id=../x,target=/x y", None, id="part of a command"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_refused(text: str, message: str | None) -> None:
    """With the line, the mount, the flaw and the releases that fix it."""
    if message is None:
        check(text)
        return
    with pytest.raises(BuildFailed, match=message) as caught:
        check(text)
    assert "Dockerfile:" in str(caught.value)
    assert "fixed in" in str(caught.value)


def test_a_fixed_buildah_is_given_everything() -> None:
    """It does the checking itself."""
    check("RUN --mount=type=cache,id=../x,target=/x y", NEW)


def test_an_unknown_buildah_counts_as_old() -> None:
    """An unknown version is not trusted."""
    with pytest.raises(BuildFailed):
        check("RUN --mount=type=cache,id=../x,target=/x y", UNKNOWN)


@pytest.mark.parametrize(
    ("version", "refused"),
    [((1, 29, 3), [True, False]), ((1, 33, 10), [False, False]), ((1, 35, 0), [True, True])],
)
def test_each_flaw_has_its_own_releases(version: tuple[int, int, int], refused: list[bool]) -> None:
    """What this release has fixed is not refused for another flaw."""
    found = []
    for mount in ("type=cache,id=../x,target=/x", "type=bind,from=e,source=/l,target=/x,rw"):
        try:
            check(f"RUN --mount={mount} y", version)
        except BuildFailed:
            found.append(True)
        else:
            found.append(False)
    assert found == refused


@pytest.mark.parametrize(("first", "second"), [("a", "a/l"), ("a/l", "a")])
def test_caches_of_a_base_image_are_those_of_the_build(first: str, second: str) -> None:
    """A step of ONBUILD could put a link into its cache, and one of the Dockerfile follow it."""
    caches: dict[str, str] = {}
    for where, name in (("Dockerfile", first), ("ONBUILD of a", second)):
        found = mounts(instructions(f"RUN --mount=type=cache,id={name},target=/x y"))
        if where == "Dockerfile":
            check_mounts(found, OLD, where, caches)
            continue
        with pytest.raises(BuildFailed, match="beside that of Dockerfile:1, not inside it"):
            check_mounts(found, OLD, where, caches)
