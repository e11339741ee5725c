"""Airflow connections that a chain needs, their uses, and the commands that create them. Pure."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from delivery_chain.core.plan import Plan, Selection, SourceSelection
from delivery_chain.core.spec.filters import Destination, destination, fires_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from delivery_chain.core.spec.delivery import Trigger
    from delivery_chain.core.spec.model import ChainSpec

REGISTRY, GIT, TRIGGER = "oci_registry", "git", "delivery_webhook"
TARGET_CONNECTIONS = {"webhook": TRIGGER}
"""Type of connection by kind of target."""
COMMANDS = {REGISTRY: "registry {} HOST", GIT: "git {} URL", TRIGGER: "trigger {} URL"}
"""Arguments of `delivery-chain connect`, by type of connection."""


@dataclass(frozen=True, slots=True)
class Needed:
    """A connection that a chain names."""

    connection: str
    conn_type: str
    what: str
    """Use, such as `trigger redeploy-prod`."""
    url: str = ""
    """URL of a git source, as the spec gives it."""
    target: str = ""
    """Kind of a trigger's target, as in the table of targets; empty for other uses."""

    @property
    def command(self) -> str:
        """Command that creates the connection."""
        return connect_command(self.conn_type, self.connection)


def connect_command(conn_type: str, connection: str) -> str:
    """Return the command that creates a connection; the reader replaces the word in capitals with the address."""
    return f"delivery-chain connect {COMMANDS[conn_type].format(connection)}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Known name most similar to an unknown one; empty if none is similar."""
    return next(iter(difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.7)), "")


def needed_by(spec: ChainSpec) -> tuple[Needed, ...]:
    """Connections that a chain may need, one for each use."""
    built = dict.fromkeys(spec.repository_of(rule) for rule in spec.build_rules)
    return (
        _home(spec),
        *(_source(spec, repository) for repository in built),
        *_bases(spec),
        *(Needed(rule.to, REGISTRY, f"replication rule {rule.name}") for rule in spec.replicate),
        *(_target(trigger) for trigger in spec.distribute),
    )


def needed_first(spec: ChainSpec, selection: Selection) -> tuple[Needed, ...]:
    """Connections needed before planning: the registry, and for a build the source and the base images."""
    if not isinstance(selection, SourceSelection):
        return (_home(spec),)
    return (_home(spec), _source(spec, selection.repository), *_bases(spec))


def needed_later(spec: ChainSpec, plan: Plan) -> tuple[Needed, ...]:
    """Connections needed after the gate: the image's regions and triggers."""
    return (*_regions(spec, plan), *_triggers(spec, plan))


def _home(spec: ChainSpec) -> Needed:
    return Needed(spec.scope.instance, REGISTRY, f"the registry of chain {spec.name}")


def _source(spec: ChainSpec, repository: str) -> Needed:
    source = spec.sources[repository]
    return Needed(source.connection, GIT, f"the source of {repository}", source.url)


def _bases(spec: ChainSpec) -> Iterator[Needed]:
    for one in (spec.build.read_from if spec.build else None) or ():
        yield Needed(one.connection, REGISTRY, "base images (build.from)")


def _regions(spec: ChainSpec, plan: Plan) -> Iterator[Needed]:
    for rule in spec.replicate:
        if isinstance(destination(spec, rule, plan.repository, plan.tags), Destination):
            yield Needed(rule.to, REGISTRY, f"replication rule {rule.name}")


def _triggers(spec: ChainSpec, plan: Plan) -> Iterator[Needed]:
    for trigger in spec.distribute if plan.announce else ():
        if fires_for(trigger, plan.tags):
            yield _target(trigger)


def _target(trigger: Trigger) -> Needed:
    conn_type = TARGET_CONNECTIONS[trigger.kind]
    return Needed(trigger.url_connection, conn_type, f"trigger {trigger.name}", target=trigger.kind)
