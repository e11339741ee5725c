"""Finds the runs that a push should start, in the same way for webhooks and the sensor. Pure."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from delivery_chain.core.events.event import Event, Kind, image_run_id, push_run_id
from delivery_chain.core.events.ledger import BACKUP, DELETION, RESERVED, StartResult
from delivery_chain.core.events.watch_dags import images_dag_id
from delivery_chain.core.names.git_ref import BRANCHES, TAGS
from delivery_chain.core.names.tags import is_backup, is_reserved
from delivery_chain.core.placeholder import deleted_tag_digest
from delivery_chain.core.plan import matching_rules, owner

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from delivery_chain.core.events.dedupe import Judgement
    from delivery_chain.core.events.pipeline import RunsThere
    from delivery_chain.core.events.push import Push
    from delivery_chain.core.spec.model import ChainSpec

NO_RULE = "no build rule matches"
NO_CHAIN = "no chain covers this image"
NO_COMMIT = "0" * 40

OPERATOR_TRIGGERED = "operator_triggered"
"""Airflow's type of runs started by a task, such as the sensors'; a person's run is `manual`."""
WEBHOOK = "webhook "
"""Prefix of the triggering user of runs that the receiver creates; a person's runs have the login name there."""
ABOUT = ("kind", "repository", "rule", "ref", "commit", "tag", "digest")
"""Keys of a run's conf that identify its push."""


def made_by_us(run_type: object, user: str | None, conf: object, wanted: Mapping[str, object]) -> bool:
    """Whether a run with a push's id is the push's run: any person who may trigger runs can claim an id first.

    Args:
        run_type: As recorded by Airflow; clients can't choose it.
        user: User who triggered the run, as recorded by Airflow.
        conf: The run's conf, chosen by the client that triggered it.
        wanted: The conf of the push's run.
    """
    kind = getattr(run_type, "value", run_type)
    if kind != OPERATOR_TRIGGERED and not (user or "").startswith(WEBHOOK):
        return False
    return isinstance(conf, dict) and all(conf.get(key, "") == wanted.get(key, "") for key in ABOUT)


@dataclass(frozen=True, slots=True)
class Start:
    """A run of one chain to start, whose id still lacks the number of the ref's stay at the commit."""

    chain: str
    namespace: str
    event: Event

    def run_id(self, visit: int) -> str:
        """The run's id, see `delivery_chain.core.events.dedupe`."""
        event = self.event
        if event.kind is Kind.IMAGE_PUSH:
            name = f"{self.namespace}/{event.repository}"
            return image_run_id(name=name, tag=event.tag, digest=event.digest, visit=visit)
        return push_run_id(ref=event.ref, commit=event.commit, rule=event.rule, visit=visit)

    @property
    def command(self) -> str:
        """The command that starts such a run by hand."""
        event = self.event
        if event.kind is Kind.IMAGE_PUSH:
            about = ["--repository", event.repository, "--tag", event.tag]
        else:
            about = ["--rule", event.rule, "--ref", event.ref]
        return shlex.join(["delivery-chain", "trigger", self.chain, *about])

    def made(self, run_type: object, user: str | None, conf: object) -> bool:
        """Whether a run with such an id is the push's run, see `made_by_us`."""
        return made_by_us(run_type, user, conf, self.event.to_conf())

    def result(self, *, run_id: str = "", made: bool = False, why: str = "") -> StartResult:
        """Its result for the ledger."""
        return StartResult(chain=self.chain, rule=self.event.rule, run_id=run_id, made=made, why=why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """A push with its runs; the steps after `route` fill in the rest."""

    push: Push
    at: datetime
    """Time of the observation."""
    place: str = ""
    """The Dag that watches the source or namespace; empty if no chain takes anything from it."""
    starts: tuple[Start, ...] = ()
    why: str = ""
    """Reason why the push starts no run; after `start`, also a remark on an unusual push."""
    there: tuple[RunsThere, ...] = ()
    """From `dedupe`: the existing runs of each start."""
    judged: Judgement | None = None
    """From `dedupe`; None for a push to which `route` or `wait` gave a reason for no run."""
    outcomes: tuple[StartResult, ...] = ()
    """From `start`."""


def route_ref(push: Push, chains: Iterable[tuple[ChainSpec, str]], *, place: str, at: datetime) -> Routed:
    """Route the push of a git ref.

    Args:
        push: Push of a ref; a deleted one starts no run, and is only matched against the rules.
        chains: Each chain with the repository that it builds from the source.
        place: The Dag that watches the source.
        at: When the push was seen.
    """
    commit = push.after or push.before or NO_COMMIT
    starts = source_starts(chains, ref=push.ref, commit=commit, previous=push.before)
    return Routed(
        push=push,
        at=at,
        place=place,
        starts=starts if push.after else (),
        why="" if starts else NO_RULE,
    )


def route_image(push: Push, specs: Sequence[ChainSpec], *, instance: str, at: datetime) -> Routed:
    """Route the push of an image that no chain built.

    Args:
        push: Push of an image, whose digest may be unknown.
        specs: All chains.
        instance: Connection of the registry.
        at: When the push was seen.
    """
    why = _own_write(push, (spec.scope.namespace for spec in specs if spec.scope.instance == instance))
    covering = [
        (namespace, spec)
        for namespace in ([] if why else _namespaces(push.name))
        if (spec := owner(specs, instance, namespace, push.name.removeprefix(f"{namespace}/")))
    ]
    if not covering:
        return Routed(push=push, at=at, why=why or NO_CHAIN)
    # Of nested namespaces, the longest takes precedence.
    namespace, spec = covering[-1]
    repository = push.name.removeprefix(f"{namespace}/")
    event = Event(kind=Kind.IMAGE_PUSH, repository=repository, tag=push.tag, digest=push.after)
    return Routed(
        push=push,
        at=at,
        place=images_dag_id(instance, namespace),
        starts=(Start(spec.name, namespace, event),),
    )


def source_starts(
    chains: Iterable[tuple[ChainSpec, str]], *, ref: str, commit: str, previous: str | None
) -> tuple[Start, ...]:
    """The runs of a push of a ref.

    Args:
        chains: Each chain with the repository that it builds from the source.
        ref: Full ref.
        commit: Commit that it points at now.
        previous: Commit that it pointed at before; empty for a new ref, None if unknown.

    Returns:
        One per chain and matching rule; none for a ref that is neither branch nor tag.
    """
    if not ref.startswith((BRANCHES, TAGS)):
        return ()
    return tuple(
        Start(
            spec.name,
            spec.scope.namespace,
            Event(
                kind=Kind.SOURCE_PUSH,
                repository=repository,
                rule=rule.name,
                ref=ref,
                commit=commit,
                previous=previous or "",
            ),
        )
        for spec, repository in chains
        for rule in matching_rules(spec, ref, repository)
    )


def _own_write(push: Push, namespaces: Iterable[str]) -> str:
    """Kind of write, such as a backup, if a chain itself pushed the image; empty for an image that chains may take."""
    if is_reserved(push.tag):
        return RESERVED
    if push.tag and push.after == deleted_tag_digest(push.tag):
        return DELETION
    return BACKUP if is_backup(push.name, namespaces) else ""


def _namespaces(name: str) -> list[str]:
    """The parent namespaces of a name, the shortest first: `a`, `a/b` for `a/b/c`."""
    parts = name.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]
