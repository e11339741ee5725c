"""Backfill a replication rule: each image older than the rule gets a run, in which it is judged like any other."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from delivery_chain.core.events.event import Event
from delivery_chain.core.events.refs import natural_key
from delivery_chain.core.names.pattern import fullmatch
from delivery_chain.core.names.tags import is_reserved
from delivery_chain.core.spec.filters import Destination, destination
from delivery_chain.errors import NotFound, UsageError
from delivery_chain.operators.base import MOST_RUNS, ChainOperator, names_in_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from airflow.sdk import Context

    from delivery_chain.core.spec.delivery import ReplicateRule
    from delivery_chain.core.spec.model import ChainSpec
    from delivery_chain.oci.client import RegistryClient


@dataclass(frozen=True, slots=True)
class Missing:
    """A tag of the home registry that a region lacks, or holds with another digest."""

    repository: str
    """Repository without the namespace."""
    tag: str
    digest: str
    rules: tuple[str, ...]
    """Replication rules whose regions lack the image."""


class ExistingOperator(ChainOperator):
    """List the images that regions lack, as runs to start: `[{trigger_dag_id, trigger_run_id, conf}, …]`."""

    def __init__(self, *, specs: Sequence[ChainSpec], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.specs = {spec.name: spec for spec in specs}

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Return one entry per image, at most `MOST_RUNS`; the log lists them, and says whether more remain."""
        from delivery_chain.hooks.registry import OciRegistryHook

        asked = context["params"]
        spec = self.specs.get(asked["chain"])
        if spec is None:
            raise UsageError(f"expected the name of a chain, found {asked['chain']!r}")
        found = missing(
            spec,
            lambda connection: OciRegistryHook(connection).client(),
            rule=asked["rule"] or "",
            tags=asked["tags"] or ".*",
        )
        run_id = context["dag_run"].run_id
        runs = []
        for image in islice(found, MOST_RUNS):
            self.log.info("%s:%s for %s", image.repository, image.tag, ", ".join(image.rules))
            runs.append(_run(spec, image, run_id))
        more = next(found, None) is not None
        self.log.info("%d images%s", len(runs), "; more remain: start this Dag again" if more else "")
        return runs


def missing(
    spec: ChainSpec, connect: Callable[[str], RegistryClient], *, rule: str = "", tags: str = ".*"
) -> Iterator[Missing]:
    """Yield the images that replication rules cover and their regions lack, in natural order of their tags.

    Args:
        spec: The chain.
        connect: Returns a registry's client for a connection id.
        rule: The only rule to consider; every rule by default.
        tags: Consider only tags that match this pattern in full.

    Raises:
        UsageError: The chain has no such rule.
        RegistryError: A registry can't be queried.
    """
    rules = [one for one in spec.replicate if rule in ("", one.name)]
    if not rules:
        known = ", ".join(one.name for one in spec.replicate) or "no replication rule"
        raise UsageError(f"chain {spec.name!r}: expected a replication rule, found {rule!r}; it has {known}")
    with ExitStack() as stack:
        connections = dict.fromkeys((spec.scope.instance, *(one.to for one in rules)))
        clients = {name: stack.enter_context(connect(name)) for name in connections}
        for name in names_in_scope(clients[spec.scope.instance], spec):
            repository = name.removeprefix(f"{spec.scope.namespace}/")
            for tag in _tags(clients[spec.scope.instance], name, tags):
                if image := _missing_image(spec, rules, clients, repository, tag):
                    yield image


def _tags(home: RegistryClient, name: str, pattern: str) -> list[str]:
    try:
        listed = home.list_tags(name)
    except NotFound:
        return []
    return sorted(
        (tag for tag in listed if not is_reserved(tag) and fullmatch(pattern, tag)), key=natural_key
    )


def _missing_image(
    spec: ChainSpec,
    rules: Sequence[ReplicateRule],
    clients: Mapping[str, RegistryClient],
    repository: str,
    tag: str,
) -> Missing | None:
    goals = [destination(spec, rule, repository, (tag,)) for rule in rules]
    covered = [goal for goal in goals if isinstance(goal, Destination)]
    name = f"{spec.scope.namespace}/{repository}"
    here = clients[spec.scope.instance].head_manifest(name, tag) if covered else None
    if here is None:
        return None
    behind = []
    for goal in covered:
        there = clients[goal.connection].head_manifest(goal.name, tag)
        if there is None or there.digest != here.digest:
            behind.append(goal.rule)
    return Missing(repository, tag, here.digest, tuple(behind)) if behind else None


def _run(spec: ChainSpec, image: Missing, asked_by: str) -> dict[str, Any]:
    event = Event(
        repository=image.repository, tag=image.tag, digest=image.digest, sender="existing", announce=False
    )
    # The id differs for each backfill, but is the same for its retries.
    unique = hashlib.sha256(f"{asked_by}\0{image.repository}\0{image.tag}\0{image.digest}".encode())
    run_id = f"existing__{image.repository.replace('/', '-')[:60]}__{image.tag}__{unique.hexdigest()[:8]}"
    return {"trigger_dag_id": spec.name, "trigger_run_id": run_id, "conf": event.to_conf()}
