"""A folder of specs, and the versions that a parse stores of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from delivery_chain.core.spec.in_force import INDEX
from delivery_chain.spec_store.in_force import look

if TYPE_CHECKING:
    from pathlib import Path

    from support.variables import Variables

SPEC = """\
version: 1
name: {name}
scope: {{instance: home, namespace: {name}, repositories: [api]}}
sources: {{api: {{connection: git_shop, url: {name}.git}}}}
build: {{rules: [{{name: main, branch: main, tags: [{{tag: edge}}]}}]}}
replicate: [{regions}]
"""
LATER = datetime(2999, 1, 1, tzinfo=UTC)


def write(folder: Path, name: str, *, file: str = "", regions: int = 2, more: str = "") -> None:
    listed = ", ".join(f"{{name: r{number}, to: west}}" for number in range(regions))
    (folder / (file or f"{name}.yaml")).write_text(SPEC.format(name=name, regions=listed) + more)


def shown(place: Path, *, keep: bool = True) -> dict[str, tuple[int, str]]:
    """Number and state of each chain that has a Dag."""
    found = look(place, keep=keep).in_force
    return {
        one.spec.name: (one.entry.number, one.entry.state.value) if one.entry else (0, "") for one in found
    }


def index(variables: Variables) -> Any:
    return json.loads(variables.held[INDEX])
