"""Prints the section "Rooms" of docs/architecture.md: a diagram of which room imports which, and a table.

Run as `python scripts/rooms.py`; with `--write`, it updates the page. Needs only the checkout.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "plugins" / "delivery_chain"
PAGE = ROOT / "docs" / "architecture.md"
BLOCK = re.compile(r"(<!-- rooms -->\n).*?(<!-- end of rooms -->)", re.DOTALL)
EVERYWHERE = ("errors",)
"""Rooms that nearly every other room imports, and that the diagram omits: their arrows would hide the others."""


def imports() -> dict[str, set[str]]:
    """Map each room to the rooms that its files import."""
    found: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        names = found.setdefault(room, set())
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("delivery_chain"):
                below = node.module.split(".")[1:]
                names |= {below[0]} if below else {alias.name for alias in node.names}
    return {room: (names & found.keys()) - {room} for room, names in found.items()}


def reduced(edges: dict[str, set[str]]) -> dict[str, set[str]]:
    """Remove the edges that a longer path implies."""

    def reach(room: str) -> set[str]:
        return {far for near in edges[room] for far in {near} | reach(near)}

    return {
        room: {near for near in known if not any(near in reach(other) for other in known - {near})}
        for room, known in edges.items()
    }


def picture(edges: dict[str, set[str]]) -> str:
    """Draw the rooms as a Mermaid graph, with arrows from the importing room to the imported one."""
    shown = {room: known - set(EVERYWHERE) for room, known in edges.items() if room not in EVERYWHERE}
    lines = [
        f"  {room} --> {near}" for room, known in sorted(reduced(shown).items()) for near in sorted(known)
    ]
    return "\n".join(["```mermaid", "graph TD", *lines, "```"])


def table(edges: dict[str, set[str]]) -> str:
    """Format a table with one row per room: its name, and the first line of its docstring."""
    rows = ["| room | what it does |", "|---|---|"]
    for room in sorted(edges):
        folder, module = PACKAGE / room / "__init__.py", PACKAGE / f"{room}.py"
        path = folder if folder.exists() else module
        said = (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").partition("\n")[0]
        rows.append(f"| `{room}{'/' if folder.exists() else '.py'}` | {said} |")
    return "\n".join(rows)


def block() -> str:
    """Return the text between the page's two markers."""
    edges = imports()
    return f"{picture(edges)}\n\n{table(edges)}\n"


def main(arguments: list[str]) -> int:
    """Print the block, or write it to the page."""
    if arguments != ["--write"]:
        print(block(), end="")
        return 0
    page = PAGE.read_text("utf-8")
    PAGE.write_text(BLOCK.sub(lambda found: found[1] + block() + found[2], page), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
