"""Which Dag watches what: one per git source and one per namespace of images, whatever the number of chains."""

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
"""What the keys of the Variables begin with that hold what webhooks told."""
OVER_PREFIX = "delivery-chain-over-"
OVER = "over"
"""Key of the event of a trigger that no chain needs any more."""


def source_dag_id(source: Source) -> str:
    """The id of the Dag that watches a source; also the name of the Variable that holds its cursor."""
    place = f"{source.connection}--{source.url}".strip("-/")
    return _dag_id(SOURCE_PREFIX, place.removesuffix(".git"), f"{source.connection}\0{source.url}")


def images_dag_id(instance: str, namespace: str) -> str:
    """The id of the Dag that watches a namespace's image tags; also the name of the Variable with its cursor."""
    return _dag_id(IMAGES_PREFIX, f"{instance}--{namespace}", f"{instance}\0{namespace}")


def told_key(dag_id: str) -> str:
    """The name of the Variable with what webhooks told of the source or namespace that a Dag watches.

    Without the readable part of the Dag's id: of a source called `token-service` Airflow would take the Variable for a
    secret, and hide each text that it ever had in every log of the triggerer.
    """
    return f"{TOLD_PREFIX}{hashlib.sha256(dag_id.encode()).hexdigest()[:12]}"


def over_key(told: str) -> str:
    """The name of the Variable that is there while no chain needs a watching Dag, whose `told_key` is given."""
    return told.replace(TOLD_PREFIX, OVER_PREFIX)


def watches(dag_id: str, connection: str) -> bool:
    """Whether a Dag watches a place of this connection, by what both ids have in common.

    `git` and `git--x` would be taken for one another; who names connections so gets one question too many.
    """
    place = dag_id.removeprefix(SOURCE_PREFIX).removeprefix(IMAGES_PREFIX)
    whole, _, _ = place.rpartition("-")
    return place != dag_id and (place.startswith(f"{connection}--") or whole == connection)


def watch_words(dag_id: str) -> list[str]:
    """Words that every spec has in its text that a watching Dag is made from."""
    place, _, _ = dag_id.removeprefix(SOURCE_PREFIX).removeprefix(IMAGES_PREFIX).rpartition("-")
    return [word for word in place.split("-") if word]


def watched(specs: Iterable[ChainSpec]) -> dict[str, tuple[Source, list[tuple[ChainSpec, str]]]]:
    """Each source with build rules once, as Dag id to the source and the chains and repositories built from it."""
    found: dict[str, tuple[Source, list[tuple[ChainSpec, str]]]] = {}
    for spec in specs:
        for repository in dict.fromkeys(spec.repository_of(rule) for rule in spec.build_rules):
            source = spec.sources[repository]
            _, chains = found.setdefault(source_dag_id(source), (source, []))
            chains.append((spec, repository))
    return found


def watched_images(specs: Iterable[ChainSpec]) -> dict[str, list[ChainSpec]]:
    """Each namespace with a chain that takes images and builds none, as Dag id to all chains of the namespace."""
    found: dict[str, list[ChainSpec]] = {}
    for spec in specs:
        found.setdefault(images_dag_id(spec.scope.instance, spec.scope.namespace), []).append(spec)
    return {
        dag_id: chains for dag_id, chains in found.items() if any(not spec.build_rules for spec in chains)
    }


def _dag_id(prefix: str, place: str, unique: str) -> str:
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", place)[:80].strip("-")
    return f"{prefix}{readable}-{hashlib.sha256(unique.encode()).hexdigest()[:6]}"
