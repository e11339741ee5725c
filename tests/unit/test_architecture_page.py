"""docs/architecture.md is true: its diagram is that of the code, and every file that it names exists."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
PACKAGE = ROOT / "plugins" / "delivery_chain"


def test_the_rooms_are_those_of_the_code() -> None:
    """`python scripts/rooms.py --write` brings the page up to date."""
    spec = importlib.util.spec_from_file_location("rooms", ROOT / "scripts" / "rooms.py")
    assert spec
    assert spec.loader
    rooms = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rooms)
    shown = rooms.BLOCK.search(PAGE)
    assert shown
    assert shown[0].removeprefix(shown[1]).removesuffix(shown[2]) == rooms.block()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([a-z_/]+(?:\.py|/))`", PAGE))))
def test_what_it_names_is_there(name: str) -> None:
    """Files and folders are named from the package's folder, or from the repository's."""
    assert (PACKAGE / name).exists() or (ROOT / name).exists()
