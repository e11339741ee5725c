"""Indexes all chains by source and by registry, to find those that a push is for, based on Airflow's Dags, not files.

A chain's spec is part of its Dag as stored by Airflow (the documentation of the task `plan`), so a request reads no
Dag file, the API server needs none, and the spec that matches is the one that will run. A chain that is in force but
has no Dag, as between `airflow db clean` and the next parse, is indexed by its stored spec, so that its pushes are
refused for now rather than unknown.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from delivery_chain.airflow_db.chain_dags import any_chain_dag, dag_hashes, stored_dags
from delivery_chain.airflow_db.session import transaction
from delivery_chain.airflow_db.specs_in_force import open_chains, specs_of
from delivery_chain.core.events.repository_path import ends_of, path_of
from delivery_chain.core.events.routing import NO_CHAIN, Routed, route_image
from delivery_chain.core.events.watch_dags import watched
from delivery_chain.core.spec.model import ChainSpec, Source
from delivery_chain.core.steps import Step
from delivery_chain.core.times import EPOCH
from delivery_chain.errors import DeliveryChainError
from delivery_chain.hooks.git import addresses

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from delivery_chain.core.events.push import Push

FRESH_SECONDS = 5.0
"""Maximum age of the index in seconds: Airflow itself takes longer to notice an edited spec."""
PLACED_SECONDS = 60.0
"""Maximum age in seconds of the addresses of git connections."""
RELATIVE = "Webhooks match sources by their relative path alone"
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Watched:
    """A source with the chains that build it."""

    dag_id: str
    """The Dag that watches it."""
    source: Source
    chains: tuple[tuple[ChainSpec, str], ...]
    """Each chain with a repository that it builds from the source."""
    beginnings: tuple[tuple[str, ...], ...] = field(init=False, repr=False, compare=False)
    """Prefixes that `for_ref` compares, in the order of `chains`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "beginnings", tuple(_beginnings(*chain) for chain in self.chains))

    def for_ref(self, ref: str) -> list[tuple[ChainSpec, str]]:
        """The chains that a full ref may start: a superset, selected by the literal prefixes of the chains' rules.

        Filtering a thousand chains of one repository this way is faster than matching the rules of ten.
        """
        return [
            chain for chain, begin in zip(self.chains, self.beginnings, strict=True) if ref.startswith(begin)
        ]


@dataclass(frozen=True, slots=True)
class Chains:
    """A snapshot of the index."""

    specs: Mapping[str, ChainSpec] = field(default_factory=dict)
    """By Dag id."""
    sources: Mapping[tuple[str, str], tuple[Watched, ...]] = field(default_factory=dict)
    """Sources by git connection and path, see `path_of`."""
    unparsed: bool = False
    """Whether Airflow has parsed no spec yet."""

    def at(self, connections: Collection[str], repositories: Iterable[str]) -> tuple[Watched, ...]:
        """The sources of these connections that match any of a repository's names, in the order of their Dag ids."""
        paths = {path for name in repositories if (path := path_of(name))}
        found = {
            one.dag_id: one
            for connection in connections
            for path in paths
            for one in self.sources.get((connection, path), ())
        }
        return tuple(found[dag_id] for dag_id in sorted(found))

    def for_image(self, push: Push, connections: Sequence[str], at: datetime) -> Routed:
        """Route an image pushed to one of these registries: its run, or the reason why it has none."""
        found = Routed(push=push, at=at, why=NO_CHAIN)
        for instance in connections:
            found = route_image(push, tuple(self.specs.values()), instance=instance, at=at)
            if not found.why:
                break
        return found

    def registry_of(self, push: Push, connections: Sequence[str]) -> str:
        """The first of these registries from which a chain takes the image; empty if none does."""
        starts = self.for_image(push, connections, EPOCH).starts
        return self.specs[starts[0].chain].scope.instance if starts else ""


class Index:
    """The chains of this Airflow, refreshed from the database every few seconds while requests arrive."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hashes: dict[str, str] = {}
        self._specs: dict[str, ChainSpec] = {}
        self._chains = Chains()
        self._until = 0.0
        self._placed_until = 0.0

    def chains(self) -> Chains:
        """The chains, at most `FRESH_SECONDS` old."""
        if time.monotonic() >= self._until:
            with self._lock:
                if time.monotonic() >= self._until:
                    self._refresh()
                    self._until = time.monotonic() + FRESH_SECONDS
        return self._chains

    def _refresh(self) -> None:
        with transaction() as session:
            dags, chains = dag_hashes(session), open_chains(session)
            hashes = {**(chains or {}), **dags}
            unparsed = not hashes and chains is None and not any_chain_dag(session)
            changed = [dag_id for dag_id, found in hashes.items() if self._hashes.get(dag_id) != found]
            if changed:
                self._specs = {
                    **{name: self._specs[name] for name in self._specs if name not in changed},
                    **specs_of(session, [name for name in changed if name not in dags]),
                    **_specs(stored_dags(session, [name for name in changed if name in dags])),
                }
        if unparsed != self._chains.unparsed:
            self._chains = replace(self._chains, unparsed=unparsed)
        if hashes == self._hashes and time.monotonic() < self._placed_until:
            return
        # Sort by name, since the database's order varies: all processes have to give the same answers.
        self._specs = {dag_id: self._specs[dag_id] for dag_id in sorted(self._specs) if dag_id in hashes}
        self._hashes = hashes
        self._chains = Chains(self._specs, _by_place(self._specs.values()), unparsed)
        self._placed_until = time.monotonic() + PLACED_SECONDS


def _specs(stored: Mapping[str, Any]) -> dict[str, ChainSpec]:
    found = {dag_id: _spec(dag_id, data) for dag_id, data in stored.items()}
    return {dag_id: spec for dag_id, spec in found.items() if spec is not None}


def _spec(dag_id: str, data: Any) -> ChainSpec | None:
    """The spec of a stored Dag; None for a Dag of another version of this package, or a copy."""
    try:
        tasks = data["dag"]["tasks"]
        text = next(task["__var"]["doc_json"] for task in tasks if task["__var"]["task_id"] == Step.PLAN)
        spec = ChainSpec.model_validate_json(text)
    except (KeyError, TypeError, StopIteration, ValidationError) as error:
        log.warning("Dag %s contains no readable spec: %s", dag_id, str(error)[:300])
        return None
    return spec if spec.name == dag_id else None


def _by_place(specs: Iterable[ChainSpec]) -> dict[tuple[str, str], tuple[Watched, ...]]:
    found: dict[tuple[str, str], tuple[Watched, ...]] = {}
    servers: dict[str, Callable[[str], str] | None] = {}
    for dag_id, (source, chains) in watched(specs).items():
        if source.connection not in servers:
            servers[source.connection] = _server(source.connection)
        one = Watched(dag_id, source, tuple(chains))
        for path in _paths(source, servers[source.connection]):
            key = (source.connection, path)
            found[key] = (*found.get(key, ()), one)
    return found


def _server(connection: str) -> Callable[[str], str] | None:
    """A function that returns the address of a repository's path; None if the connection is invalid."""
    try:
        return addresses(connection)
    except DeliveryChainError as error:
        log.warning("%s: %s", RELATIVE, error)
        return None


def _paths(source: Source, server: Callable[[str], str] | None) -> set[str]:
    """All names of a source: its path relative to the connection, the path of its full address, and those in between.

    A bare repository's `post-receive` hook reports the last two folders of its path, even if the connection's URL
    contains some of them.
    """
    below, whole = path_of(source.url), ""
    try:
        whole = path_of(server(source.url)) if server else ""
    except DeliveryChainError as error:
        log.warning("%s: %s", RELATIVE, error)
    return {below, *ends_of(whole, below)} - {""}


def _beginnings(chain: ChainSpec, repository: str) -> tuple[str, ...]:
    """Literal prefixes of the full refs that match a chain's rules for a repository."""
    return tuple(
        rule.prefix + rule.pattern.beginning
        for rule in chain.build_rules
        if chain.repository_of(rule) == repository
    )
