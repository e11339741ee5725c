"""Match an image's tags against replication rules and triggers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from delivery_chain.core.names.pattern import fullmatch
from delivery_chain.core.spec.delivery import Level, ReplicateRule, Trigger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from delivery_chain.core.spec.model import ChainSpec


@dataclass(frozen=True, slots=True)
class Destination:
    """Destination of one image by one replication rule."""

    rule: str
    connection: str
    name: str
    """Repository at the target, with its namespace."""
    tags: tuple[str, ...]
    """Tags of the image that the rule covers."""
    override: bool


@dataclass(frozen=True, slots=True)
class NotCovered:
    """A replication rule does not cover an image."""

    reason: str
    """Why not, for people."""


def destination(
    spec: ChainSpec, rule: ReplicateRule, repository: str, tags: Iterable[str]
) -> Destination | NotCovered:
    """Return the rule's destination of an image, or why the rule does not cover it."""
    if rule.level is Level.REPOSITORY and repository != spec.repository_of(rule):
        return NotCovered(f"rule {rule.name!r} is for repository {spec.repository_of(rule)!r}")
    if rule.repositories and not fullmatch(rule.repositories, repository):
        return NotCovered(f"repository {repository!r} does not match {rule.repositories!r}")
    covered = tuple(tag for tag in tags if fullmatch(rule.tags, tag))
    if not covered:
        return NotCovered(f"no tag of {', '.join(tags) or 'this image'} matches {rule.tags!r}")
    namespace = rule.rename.namespace or spec.scope.namespace
    name = f"{namespace}/{rule.rename.repository or repository}"
    return Destination(rule.name, rule.to, name, covered, rule.override)


def fires_for(trigger: Trigger, tags: Iterable[str]) -> tuple[str, ...]:
    """Tags that a trigger fires for."""
    if trigger.on == "all":
        return tuple(tags)
    if trigger.on.regexp:
        return tuple(tag for tag in tags if fullmatch(trigger.on.regexp, tag))
    return tuple(tag for tag in tags if tag in trigger.on.tags)


def waits_for(trigger: Trigger, spec: ChainSpec) -> tuple[str, ...]:
    """Replication rules whose regions must have the image before a trigger fires."""
    return tuple(rule.name for rule in spec.replicate) if trigger.after is None else trigger.after
