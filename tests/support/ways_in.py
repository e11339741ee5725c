"""The lists "Where to add …" of docs/architecture.md, followed like a reader would.

Each item begins with a file. A path with `<…>` is that of a new file; in any other file, the new thing gets an entry.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "plugins" / "delivery_chain"
PAGE = ROOT / "docs" / "architecture.md"
_ITEM = re.compile(r"^(\d+)\. `([^`]+)`: (.+)$", re.MULTILINE)
_NAME = re.compile(r"<\w+>")


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a list."""

    number: int
    path: str
    """Path as on the page, from the package's folder or the repository's."""
    text: str

    def file(self, name: str) -> Path:
        """The file for a thing of this name."""
        path = _NAME.sub(name, self.path)
        return PACKAGE / path if (PACKAGE / path).exists() else ROOT / path

    def lacks(self, name: str) -> str:
        """The reason why the item does not hold for an existing thing; empty if it does."""
        file = self.file(name)
        if not file.exists():
            return f"{self.number}. {self.path}: no such file"
        if _NAME.search(self.path) or name in file.read_text("utf-8").lower():
            return ""
        return f"{self.number}. {self.path}: nothing in it is about {name}"


def way_in(what: str) -> list[Item]:
    """The items of the list for one kind of thing, such as `target`."""
    page = PAGE.read_text("utf-8")
    section = re.search(rf"^## Where to add an? {what}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert section, f"docs/architecture.md has no section `Where to add a {what}`"
    return [Item(int(number), path, text) for number, path, text in _ITEM.findall(section[1])]
