"""Known vulnerabilities are recognized by a release's number and its release line."""

from __future__ import annotations

import pytest

from delivery_chain.tools import known_flaws, versions
from delivery_chain.tools.known_flaws import BIND_LEAVES, CACHE_LEAVES, FLAWS, parse


@pytest.mark.parametrize(
    ("version", "cache", "bind"),
    [
        ("1.28.2", True, True),
        ("1.29.3", True, False),
        ("1.30.0", True, True),
        ("1.33.6", True, True),
        ("1.33.7", True, False),
        ("1.33.10", False, False),
        ("1.34.3", True, False),
        ("1.35.1", True, False),
        ("1.35.5", False, False),
        ("1.36.0", True, False),
        ("1.37.5", False, False),
        ("1.38.0", False, False),
        ("2.0.0", False, False),
    ],
)
def test_release_lines(version: str, *, cache: bool, bind: bool) -> None:
    """A line that got no fix has the flaw, though an older line got one."""
    assert (CACHE_LEAVES.affects(parse(version)), BIND_LEAVES.affects(parse(version))) == (cache, bind)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("buildah version 1.28.2 (image-spec 1.1.0-rc2, runtime-spec 1.0.2-dev)", (1, 28, 2)),
        ("runc version 1.1.5+ds1", (1, 1, 5)),
        ("git version 2.39.5", (2, 39, 5)),
        ("Version: 0.76.0", (0, 76, 0)),
        ("runc version 1.4", (1, 4, 0)),
        ("dev", (0, 0, 0)),
    ],
)
def test_versions(text: str, expected: tuple[int, int, int]) -> None:
    """As the programs print them."""
    assert parse(text) == expected


def test_a_flaw_that_came_later() -> None:
    """Older releases don't have it."""
    flaw = next(flaw for flaw in FLAWS if flaw.cve == "CVE-2026-44517")
    assert [flaw.affects(parse(one)) for one in ("1.28.2", "1.39.3", "1.43.2")] == [False, True, False]


def test_table() -> None:
    """Each flaw once; releases in order."""
    assert len({flaw.cve for flaw in FLAWS}) == len(FLAWS)
    for flaw in FLAWS:
        assert [parse(one) for one in flaw.fixed] == sorted(parse(one) for one in flaw.fixed)


def test_line_of_the_log() -> None:
    """Version, flaw, fix, and that a distribution may have backported it."""
    line = known_flaws.lines("buildah", "buildah version 1.35.4")[0]
    assert line == (
        "buildah 1.35.4 has CVE-2024-9675, going by its version (a cache mount may point anywhere): fixed in 1.33.10, "
        "1.35.5, 1.37.5 and 1.38.0; your distribution may have backported the fix"
    )


def test_a_program_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Says so, and stops nothing."""
    monkeypatch.setenv("PATH", "/nowhere")
    versions.version_text.cache_clear()
    assert known_flaws.lines("trivy", versions.version_text("nothing-of-that-name")) == [
        "trivy: its version could not be read, so its known vulnerabilities can't be listed"
    ]
