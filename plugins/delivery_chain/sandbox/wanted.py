"""Derives from the specs which Dags, watches and connections they need, and the commands that add these. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.core.events.watch_dags import watched, watched_images
from delivery_chain.core.spec.connections import nearest, needed_by

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from delivery_chain.core.spec.connections import Needed
    from delivery_chain.core.spec.model import ChainSpec


def watches(specs: Iterable[ChainSpec]) -> dict[str, str]:
    """Map each Dag that watches a source or images to the connection it needs."""
    specs = list(specs)
    sources = {dag_id: source.connection for dag_id, (source, _) in watched(specs).items()}
    return sources | {dag_id: chains[0].scope.instance for dag_id, chains in watched_images(specs).items()}


def missing(specs: Iterable[ChainSpec], known: Mapping[str, str]) -> list[Needed]:
    """List the connections that the chains need and that are absent or of another type, each once.

    Args:
        specs: The chains.
        known: Maps connection ids to types.
    """
    wanted = {(one.connection, one.conn_type): one for spec in specs for one in reversed(needed_by(spec))}
    return [one for one in wanted.values() if known.get(one.connection) != one.conn_type]


def advice(lacking: Iterable[Needed], known: Mapping[str, str], environment: Path) -> list[str]:
    """Lines that name each missing connection and the command that adds it; empty if none is missing.

    Args:
        lacking: Connections, from `missing`.
        known: Maps connection ids to types.
        environment: The file to source so that commands address this sandbox.
    """
    lines = []
    for one in sorted(lacking, key=lambda one: one.connection):
        found = known.get(one.connection, "")
        if found:
            lines.append(
                f"connection {one.connection}: expected type {one.conn_type} for {one.what}, found {found}; "
                "delete it under Admin > Connections, then"
            )
        else:
            near = nearest(one.connection, [name for name, kind in known.items() if kind == one.conn_type])
            meant = f" (did you mean {near}?)" if near else ""
            lines.append(f"connection {one.connection} is missing: {one.what}{meant}")
        lines.append(f"  {one.command}")
    if lines:
        lines.append(f"run `. {environment}` first, so that these commands address this sandbox")
    return lines
