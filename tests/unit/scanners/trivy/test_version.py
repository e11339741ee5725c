"""Minimum version of Trivy: checked before anything else; the error gives the path."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from delivery_chain.errors import ToolMissing
from delivery_chain.scanners.trivy.version import check_version, parse_version, version_problem

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("printed", "version"),
    [
        ("Version: 0.76.0", (0, 76, 0)),
        ("Version: 0.68.2\nVulnerability DB:\n  Version: 2\n", (0, 68, 2)),
        ("Version: v0.69.1-SNAPSHOT-abc", (0, 69, 1)),
        ("Version: 1.2", (1, 2, 0)),
        ("Version: dev", None),
        ("trivy 0.76.0", None),
        ("", None),
    ],
)
def test_versions_are_read(printed: str, version: tuple[int, int, int] | None) -> None:
    """The first line of `trivy --version`, releases and snapshots."""
    assert parse_version(printed) == version


@pytest.mark.parametrize(
    ("printed", "problem"),
    [
        ("Version: 0.69.0", ""),
        ("Version: 0.100.0", ""),
        ("Version: 1.0.0", ""),
        ("Version: 0.68.9", "/usr/bin/trivy: expected Trivy 0.69.0 or newer, found 0.68.9"),
        ("Version: 0.9.0", "/usr/bin/trivy: expected Trivy 0.69.0 or newer, found 0.9.0"),
        (
            "Version: 0.69.4",
            (
                "/usr/bin/trivy: expected Trivy 0.69.0 or newer, found 0.69.4, which an attacker published in its "
                "maintainers' name (GHSA-69fq-xp46-6x23): remove it, and replace every secret that this machine reaches"
            ),
        ),
        (
            "Version: dev",
            "/usr/bin/trivy: expected Trivy 0.69.0 or newer, found one that does not print its version: 'Version: dev'",
        ),
    ],
)
def test_an_old_trivy_is_named(printed: str, problem: str) -> None:
    """Versions are compared as numbers; the message names program, minimum and what was found."""
    assert version_problem("/usr/bin/trivy", printed.splitlines()) == problem


def test_a_program_is_asked_once(tmp_path: Path) -> None:
    """An old one is refused each time, with the way to a newer one; a good one is asked once per process."""
    old, new = tmp_path / "old", tmp_path / "new"
    calls = tmp_path / "calls"
    for program, version in ((old, "0.68.2"), (new, "0.76.0")):
        program.write_text(
            f"#!{sys.executable}\nopen({str(calls)!r}, 'a').write('x')\nprint('Version: {version}')\n"
        )
        program.chmod(0o755)

    for _ in range(2):
        with pytest.raises(
            ToolMissing,
            match=rf"{old}: expected Trivy 0.69.0 or newer, found 0.68.2; install it from its maintainers",
        ):
            check_version(str(old))
        check_version(str(new))

    assert calls.read_text() == "xxx"
