"""What the specs want of Airflow: Dags, watches, connections, and the commands that add those. Pure."""

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
    """The Dags that watch sources and images, and the connection that each needs."""
    specs = list(specs)
    sources = {dag_id: source.connection for dag_id, (source, _) in watched(specs).items()}
    return sources | {dag_id: chains[0].scope.instance for dag_id, chains in watched_images(specs).items()}


def missing(specs: Iterable[ChainSpec], known: Mapping[str, str]) -> list[Needed]:
    """What the chains need and is not there, or is there with another type; each connection once.

    Args:
        specs: The chains.
        known: Connection id to type.
    """
    wanted = {(one.connection, one.conn_type): one for spec in specs for one in reversed(needed_by(spec))}
    return [one for one in wanted.values() if known.get(one.connection) != one.conn_type]


def advice(lacking: Iterable[Needed], known: Mapping[str, str], environment: Path) -> list[str]:
    """What to tell of them, as lines; none where nothing is lacking.

    Args:
        lacking: From `missing`.
        known: Connection id to type.
        environment: The file that makes commands speak to this sandbox.
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
            meant = f" (is {near} meant?)" if near else ""
            lines.append(f"connection {one.connection} is missing: {one.what}{meant}")
        lines.append(f"  {one.command}")
    if lines:
        lines.append(f"these commands speak to this sandbox after `. {environment}`")
    return lines
