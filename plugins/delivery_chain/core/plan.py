"""Plan one run from a spec and an event. Pure: the caller does the lookups in between.

selection = select(spec, event)            the rule or the image; rejects an event with a reason
plan = make_plan(spec, selection, …)       with the commit or digest that the source has now
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from delivery_chain.core.events.event import Event, Kind
from delivery_chain.core.names.git_ref import short_ref
from delivery_chain.core.names.platform import Platform
from delivery_chain.core.names.reference import check_digest
from delivery_chain.core.names.tags import any_time, compose_tag, is_reserved, run_key, staging_tag
from delivery_chain.core.seal import fingerprint
from delivery_chain.core.spec.advice import glob_hint
from delivery_chain.core.spec.model import BuildRule, ChainSpec, Source
from delivery_chain.core.times import not_after
from delivery_chain.core.value import Value
from delivery_chain.errors import EventRefused, Superseded

if TYPE_CHECKING:
    import re
    from collections.abc import Iterable


class BuildPlan(Value):
    """Source and options of a build."""

    rule: str
    source: Source
    ref: str
    """Full ref."""
    commit: str
    context: str
    dockerfile: str
    args: dict[str, str]
    platforms: tuple[Platform, ...]
    older: bool = False
    """Whether the ref has moved on from this commit: a rebuild of a commit that a user named."""


class Plan(Value):
    """Everything a run does, decided once."""

    chain: str
    run_id: str
    kind: Kind
    instance: str
    """Connection of the home registry."""
    namespace: str
    repository: str
    tags: tuple[str, ...]
    """User tags, in the rule's order."""
    pushed_at: datetime
    """Time of the push, by which tags are ordered: the latest push gets them. For a redelivery, the original time."""
    seen_at: datetime | None = None
    """Time at which this installation first saw the push, by its own clock."""
    actor: str = ""
    build: BuildPlan | None = None
    digest: str = ""
    """Digest of the existing image, for a run without a build."""
    announce: bool = True
    """Whether to fire triggers."""
    again: int = 0
    """Number of earlier pushes of the image that were delivered under this run id; their runs were deleted since."""

    @property
    def name(self) -> str:
        """Repository in the registry: `namespace/repository`."""
        return f"{self.namespace}/{self.repository}"

    @property
    def key(self) -> str:
        """12 hex digits that identify this run."""
        return run_key(self.chain, self.run_id)

    def staging(self, platform: Platform | None = None) -> str:
        """Staging tag of the run, or of one platform."""
        return staging_tag(self.key, platform.slug if platform else "")

    @property
    def title(self) -> str:
        """Image for display: `shop/api v1.2.0, latest`, or its digest if untagged."""
        named = f"{self.name} {', '.join(self.tags) or self.digest}"
        if self.build is None or not self.build.older:
            return named
        return f"{named} (rebuild of {self.build.ref} at its older commit {self.build.commit[:12]})"


class Planned(Value):
    """Result of the first step: the plan, and the spec it was made from."""

    plan: Plan
    spec: ChainSpec
    number: int = 0
    """Version of the spec; 0 if unknown."""
    fingerprint: str = ""
    """Fingerprint of the spec."""


def made_for(plan: Plan, spec: ChainSpec) -> str:
    """Fingerprint of the plan that a value belongs to: a cleared plan may decide differently than the previous one."""
    return fingerprint(plan.to_xcom(), spec.to_xcom())


@dataclass(frozen=True, slots=True)
class SourceSelection:
    """Build rule and ref of a source."""

    rule: BuildRule
    repository: str
    source: Source
    ref: str
    """Full ref. Short if a user gave a short name that may be a branch or a tag; then `rule` decides."""


@dataclass(frozen=True, slots=True)
class ImageSelection:
    """Existing image."""

    repository: str
    tag: str
    digest: str


Selection = SourceSelection | ImageSelection


def select(spec: ChainSpec, event: Event) -> Selection:
    """Select the rule or image of an event in this chain.

    Raises:
        EventRefused: The event is outside the scope, matches no rule or several, or can't be started by hand.
    """
    if event.repository and not spec.scope.covers(event.repository):
        raise EventRefused(f"repository {event.repository!r} is not in the scope of chain {spec.name!r}")
    return _select_image(spec, event) if event.is_image else _select_source(spec, event)


def matching_rules(spec: ChainSpec, ref: str, repository: str = "") -> tuple[BuildRule, ...]:
    """Return the build rules that a push of `ref` (full, or a short name of either kind) starts.

    Empty for a full name of another kind, such as `refs/pull/1/head`.
    """
    kind, name = short_ref(ref)
    if not kind and name.startswith("refs/"):
        return ()
    return tuple(
        rule
        for rule in spec.build_rules
        if kind in ("", rule.ref_kind)
        and repository in ("", spec.repository_of(rule))
        and rule.pattern.captures(name) is not None
    )


def _select_image(spec: ChainSpec, event: Event) -> ImageSelection:
    repository = event.repository or _only(spec)
    if not repository:
        raise EventRefused(f"name the `repository`: chain {spec.name!r} covers more than one")
    if event.tag and is_reserved(event.tag):
        raise EventRefused(f"tag {event.tag!r} is a name reserved for the chain")
    return ImageSelection(repository, event.tag, event.digest)


def _select_source(spec: ChainSpec, event: Event) -> SourceSelection:
    if not spec.build_rules:
        raise EventRefused(
            f"chain {spec.name!r} has no build rule: name a `repository` and its image's `tag`"
        )
    if event.ref:
        rule = _one_rule(spec, event)
        ref = event.ref if short_ref(event.ref)[0] else rule.prefix + event.ref
    else:
        rule = _rule_by_hand(spec, event)
        ref = rule.literal_ref
    repository = spec.repository_of(rule)
    return SourceSelection(rule, repository, spec.sources[repository], ref)


def _one_rule(spec: ChainSpec, event: Event) -> BuildRule:
    if event.rule:
        _named(spec, event.rule)
    rules = matching_rules(spec, event.ref, event.repository)
    chosen = [rule for rule in rules if event.rule in ("", rule.name)]
    if not chosen:
        rule = f"build rule {event.rule!r}" if event.rule else "build rule"
        known = "; ".join(f"{r.name}: {r.ref_kind} {r.pattern.text}" for r in spec.build_rules)
        hints = {
            hint: None for r in spec.build_rules if r.match is None and (hint := glob_hint(r.pattern.text))
        }
        raise EventRefused(
            "; ".join(
                (f"no {rule} of chain {spec.name!r} matches {event.ref!r} as a whole name ({known})", *hints)
            )
        )
    if len(chosen) > 1:
        names = ", ".join(rule.name for rule in chosen)
        raise EventRefused(f"{event.ref!r} matches several build rules, name the `rule`: {names}")
    return chosen[0]


def _rule_by_hand(spec: ChainSpec, event: Event) -> BuildRule:
    if not event.rule:
        raise EventRefused(
            "name a `rule` or a `ref` to build, or a `repository` and an image's `tag` or `digest`"
        )
    rule = _named(spec, event.rule)
    if rule.system_only:
        raise EventRefused(
            f"build rule {rule.name!r} has a pattern, a build time or a commit id, so it can't be built by its "
            f"name alone: name the `ref` ({rule.ref_kind}) to build, as if it had just been pushed"
        )
    return rule


def _named(spec: ChainSpec, name: str) -> BuildRule:
    for rule in spec.build_rules:
        if rule.name == name:
            return rule
    known = ", ".join(rule.name for rule in spec.build_rules)
    raise EventRefused(f"chain {spec.name!r} has no build rule {name!r}: it has {known}")


def _only(spec: ChainSpec) -> str:
    return spec.scope.repositories[0] if len(spec.scope.repositories) == 1 else ""


def make_plan(
    spec: ChainSpec, selection: Selection, event: Event, *, run_id: str, now: datetime, present: str
) -> Plan:
    """Decide what the run does.

    Args:
        spec: The chain.
        selection: From `select`.
        event: The event that started the run.
        run_id: Airflow's id of the run.
        now: Used if the event has no push time, or one in the future.
        present: The source's current commit of the ref, or digest of the tag; empty if the ref or image does not
            exist.

    Raises:
        Superseded: The ref or tag moved on since the push; the newer push has its own run. Not raised if a user named
            the commit: it is built, without moving tags of other commits.
        EventRefused: The ref or image no longer exists, or a resulting tag is invalid.
    """
    pushed_at = not_after(event.pushed_at, now)
    common = {
        "chain": spec.name,
        "run_id": run_id,
        "kind": event.kind,
        "instance": spec.scope.instance,
        "namespace": spec.scope.namespace,
        "repository": selection.repository,
        "pushed_at": pushed_at,
        "seen_at": not_after(event.seen_at, now),
        "actor": event.actor,
        "announce": event.announce,
    }
    if isinstance(selection, ImageSelection):
        digest = _still(selection.digest, present, f"tag {selection.tag or selection.digest!r}")
        held = (selection.tag,) if selection.tag else ()
        return Plan(**common, tags=held, digest=check_digest(digest))
    by_hand = event.kind is Kind.MANUAL
    commit = check_still(spec, selection, event, present)
    older = by_hand and event.commit not in ("", commit)
    commit = event.commit if older else commit
    rule = selection.rule
    tags = tags_of(spec, selection, commit=commit, pushed_at=pushed_at)
    build = BuildPlan(
        rule=rule.name,
        source=selection.source,
        ref=selection.ref,
        commit=commit,
        context=rule.context,
        dockerfile=rule.dockerfile,
        args=rule.args,
        platforms=rule.platforms,
        older=older,
    )
    return Plan(**common, tags=tags, build=build)


def tags_of(
    spec: ChainSpec, selection: SourceSelection, *, commit: str, pushed_at: datetime
) -> tuple[str, ...]:
    """Compose the tags that a rule gives to a commit of a ref, without duplicates.

    Raises:
        EventRefused: One of them is invalid.
    """
    captured = selection.rule.pattern.captures(short_ref(selection.ref)[1]) or {}
    timezone = spec.build.timezone if spec.build else "UTC"
    made = (
        compose_tag(tag, captured=captured, pushed_at=pushed_at, timezone=timezone, commit=commit)
        for tag in selection.rule.tags
    )
    return tuple(dict.fromkeys(made))


def timed_tags(selection: SourceSelection, *, commit: str) -> tuple[re.Pattern[str], ...]:
    """Patterns of the tags with a build time that a rule gives to a commit of a ref, for any time."""
    captured = selection.rule.pattern.captures(short_ref(selection.ref)[1]) or {}
    timed = (tag for tag in selection.rule.tags if tag.build_time)
    return tuple(any_time(tag, captured=captured, commit=commit) for tag in timed)


def check_still(spec: ChainSpec, selection: SourceSelection, event: Event, present: str) -> str:
    """Return the current commit of a ref, which has to be the event's; a user may name another one.

    Raises:
        Superseded: The ref moved on; the newer push has its own run.
        EventRefused: The ref no longer exists.
    """
    anyway = f"delivery-chain trigger {spec.name} --ref {selection.ref} --commit {event.commit}"
    expected = "" if event.kind is Kind.MANUAL else event.commit
    return _still(expected, present, f"{selection.ref!r}", anyway)


def _still(expected: str, present: str, what: str, anyway: str = "") -> str:
    if not present:
        raise EventRefused(f"{what} does not exist: it was deleted, or never pushed")
    if expected and expected != present:
        raise Superseded(
            f"{what} moved on from {expected[:19]} to {present[:19]}: the newer push has its own run"
            + (f". To build the older one all the same: {anyway}" if anyway else "")
        )
    return present


def owner(specs: Iterable[ChainSpec], instance: str, namespace: str, repository: str) -> ChainSpec | None:
    """Return the chain responsible for an image event: a listed repository takes precedence over a whole namespace."""
    covering = [
        spec
        for spec in specs
        if (spec.scope.instance, spec.scope.namespace) == (instance, namespace)
        and spec.scope.covers(repository)
    ]
    return min(covering, key=lambda spec: spec.scope.all, default=None)
