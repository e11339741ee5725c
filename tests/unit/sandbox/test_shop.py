"""The sample applications and the names of their pushes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from delivery_chain.errors import ToolMissing
from delivery_chain.sandbox import shop, source

if TYPE_CHECKING:
    from pathlib import Path

MADE = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
STATUS = "rootfs/var/lib/dpkg/status"


@pytest.mark.parametrize(("vulnerable", "glibc"), [(False, "2.36-9+deb12u14"), (True, "2.36-9")])
def test_packages_say_their_version(*, vulnerable: bool, glibc: str) -> None:
    """The package database names glibc as source of its binary packages, in the wanted version."""
    files = shop.files(shop.Release("web", "v1.0.0", MADE, vulnerable), None)
    assert f"Source: glibc\nVersion: {glibc}\n" in files[STATUS].decode()


def test_releases_differ_by_their_time() -> None:
    """Two pushes of one branch are two commits: the page carries the time."""
    first = shop.files(shop.Release("web", "main", MADE, vulnerable=False), None)
    second = shop.files(shop.Release("web", "main", MADE.replace(minute=1), vulnerable=False), None)
    assert first != second


def test_a_busybox_with_a_loader_is_refused(tmp_path: Path) -> None:
    """A program that needs libraries would not start in the image."""
    program = tmp_path / "busybox"
    program.write_bytes(b"\x7fELF....../lib64/ld-linux-x86-64.so.2")
    with pytest.raises(ToolMissing, match="busybox-static"):
        shop.files(shop.Release("api", "v1.0.0", MADE, vulnerable=False), program)


@pytest.mark.parametrize(
    ("tags", "minor"),
    [([], 0), (["v1.0.0", "v1.1.0"], 2), (["v1.9.3", "v2.40.0", "nightly", "v1.10.0"], 11)],
)
def test_the_demo_takes_the_next_free_version(tags: list[str], minor: int) -> None:
    """Versions are counted as numbers, other tags are not looked at."""
    assert source.next_minor(tags) == minor
