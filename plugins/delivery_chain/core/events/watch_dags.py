"""Names the watching Dags: one per git source and one per image namespace, whatever the number of chains."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from delivery_chain.core.spec.model import ChainSpec, Source

SOURCE_PREFIX = "delivery-chain-source--"
IMAGES_PREFIX = "delivery-chain-images--"
TOLD_PREFIX = "delivery-chain-webhooks-"
"""Prefix of the Variables that hold moves reported by webhooks."""
OVER_PREFIX = "delivery-chain-over-"
OVER = "over"
"""Key in the event with which a trigger ends, once no chain needs its Dag any longer."""


def source_dag_id(source: Source) -> str:
    """The id of the Dag that watches a source; also the name of the Variable with its cursor."""
    place = f"{source.connection}--{source.url}".strip("-/")
    return _dag_id(SOURCE_PREFIX, place.removesuffix(".git"), f"{source.connection}\0{source.url}")


def images_dag_id(instance: str, namespace: str) -> str:
    """The id of the Dag that watches a namespace's image tags; also the name of the Variable with its cursor."""
    return _dag_id(IMAGES_PREFIX, f"{instance}--{namespace}", f"{instance}\0{namespace}")


def told_key(dag_id: str) -> str:
    """The name of the Variable with the moves that webhooks reported for the source or namespace of a watching Dag.

    It omits the readable part of the Dag id: if a source were called `token-service`, Airflow would take the Variable
    for a secret, and mask every value in it in all logs of the triggerer.
    """
    return f"{TOLD_PREFIX}{hashlib.sha256(dag_id.encode()).hexdigest()[:12]}"


def over_key(told: str) -> str:
    """The name of the Variable that exists while no chain needs a watching Dag, from that Dag's `told_key`."""
    return told.replace(TOLD_PREFIX, OVER_PREFIX)


def watches(dag_id: str, connection: str) -> bool:
    """Whether a Dag watches a source or namespace of this connection, by the prefix of the Dag's id.

    A connection `git` also matches the Dags of a connection `git--x`, which costs one redundant request.
    """
    place = dag_id.removeprefix(SOURCE_PREFIX).removeprefix(IMAGES_PREFIX)
    whole, _, _ = place.rpartition("-")
    return place != dag_id and (place.startswith(f"{connection}--") or whole == connection)


def watch_words(dag_id: str) -> list[str]:
    """Words that occur in the text of every spec that a watching Dag is made from."""
    place, _, _ = dag_id.removeprefix(SOURCE_PREFIX).removeprefix(IMAGES_PREFIX).rpartition("-")
    return [word for word in place.split("-") if word]


def watched(specs: Iterable[ChainSpec]) -> dict[str, tuple[Source, list[tuple[ChainSpec, str]]]]:
    """Every distinct source with build rules: Dag id to the source, and the chains and repositories built from it."""
    found: dict[str, tuple[Source, list[tuple[ChainSpec, str]]]] = {}
    for spec in specs:
        for repository in dict.fromkeys(spec.repository_of(rule) for rule in spec.build_rules):
            source = spec.sources[repository]
            _, chains = found.setdefault(source_dag_id(source), (source, []))
            chains.append((spec, repository))
    return found


def watched_images(specs: Iterable[ChainSpec]) -> dict[str, list[ChainSpec]]:
    """Every namespace with a chain that takes images and builds none: Dag id to all chains of the namespace."""
    found: dict[str, list[ChainSpec]] = {}
    for spec in specs:
        found.setdefault(images_dag_id(spec.scope.instance, spec.scope.namespace), []).append(spec)
    return {
        dag_id: chains for dag_id, chains in found.items() if any(not spec.build_rules for spec in chains)
    }


def _dag_id(prefix: str, place: str, unique: str) -> str:
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", place)[:80].strip("-")
    return f"{prefix}{readable}-{hashlib.sha256(unique.encode()).hexdigest()[:6]}"
