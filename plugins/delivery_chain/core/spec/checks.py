"""Consistency checks: between fields of one spec, and between specs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from delivery_chain.core.names.git_ref import broken_rule
from delivery_chain.core.names.pattern import Match
from delivery_chain.core.spec.delivery import Level

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Self

    from delivery_chain.core.spec.delivery import ReplicateRule, Trigger
    from delivery_chain.core.spec.document import Complaint, KeyPath
    from delivery_chain.core.spec.model import BuildRule, ChainSpec, Scope

RULES: KeyPath = ("build", "rules")
REPLICATE: KeyPath = ("replicate",)
DISTRIBUTE: KeyPath = ("distribute",)


@dataclass(frozen=True, slots=True)
class Draft:
    """Valid parts of a spec that may have errors elsewhere, with their positions.

    Names are kept separately, since an item with an invalid field still has a name.
    """

    scope: Scope | None
    sources: frozenset[str] | None
    """Repositories that have a source; None if unknown."""
    rules: Mapping[int, BuildRule]
    replicate: Mapping[int, ReplicateRule]
    distribute: Mapping[int, Trigger]
    names: Mapping[KeyPath, Mapping[int, str] | None]
    """Names by position in each list; None if it is not a list."""
    ship: tuple[str, ...] = ()
    """The only platforms that are published; empty for all."""

    @classmethod
    def of(cls, spec: ChainSpec) -> Self:
        """Create the draft of a valid spec, which is complete."""
        lists: dict[KeyPath, tuple[BuildRule | ReplicateRule | Trigger, ...]]
        lists = {RULES: spec.build_rules, REPLICATE: spec.replicate, DISTRIBUTE: spec.distribute}
        return cls(
            spec.scope,
            frozenset(spec.sources),
            dict(enumerate(spec.build_rules)),
            dict(enumerate(spec.replicate)),
            dict(enumerate(spec.distribute)),
            {path: {index: item.name for index, item in enumerate(items)} for path, items in lists.items()},
            spec.scan.ship,
        )

    @property
    def only_repository(self) -> str | None:
        """Default repository of rules that name none."""
        listed = self.scope.repositories if self.scope else ()
        return listed[0] if len(listed) == 1 else None


def cross_problems(draft: Draft) -> Iterator[Complaint]:
    """Yield every inconsistency between the fields of one spec; checks that need an invalid part are skipped."""
    for path, names in draft.names.items():
        yield from _twice(path, names or {})
    for index, rule in draft.rules.items():
        yield from _rule(draft, index, rule)
    replications = draft.names[REPLICATE]
    for index, trigger in draft.distribute.items():
        for name in trigger.after or ():
            if replications is not None and name not in replications.values():
                yield (*DISTRIBUTE, index, "after"), f"no replication rule is named {name!r}"
    if draft.scope is not None:
        yield from _outside_scope(draft, draft.scope)


def _rule(draft: Draft, index: int, rule: BuildRule) -> Iterator[Complaint]:
    if rule.pattern.match is Match.LITERAL and (broken := broken_rule(rule.literal_ref)):
        yield (*RULES, index, rule.ref_kind), f"no {rule.ref_kind} in git can have this name: {broken}"
    for platform in rule.platforms if draft.ship else ():
        if platform not in draft.ship:
            yield (*RULES, index, "platforms"), f"{platform} is built, but `scan.platforms` does not ship it"


def _outside_scope(draft: Draft, scope: Scope) -> Iterator[Complaint]:
    for name in sorted(draft.sources or ()):
        if not scope.covers(name):
            yield ("sources", name), f"repository {name!r} is not in the chain's scope"
    for index, rule in draft.rules.items():
        repository = rule.repository or draft.only_repository
        if repository is None:
            yield (*RULES, index), "name a `repository`: the scope has more than one"
        elif not scope.covers(repository):
            yield (*RULES, index, "repository"), f"{repository!r} is not in the chain's scope"
        elif draft.sources is not None and repository not in draft.sources:
            yield (*RULES, index), f"`sources` has no entry for repository {repository!r}"
    for index, entry in draft.replicate.items():
        yield from _replication(draft, scope, (*REPLICATE, index), entry)


def _replication(draft: Draft, scope: Scope, path: KeyPath, rule: ReplicateRule) -> Iterator[Complaint]:
    if rule.level is Level.NAMESPACE:
        if rule.rename.repository:
            yield (*path, "as", "repository"), "goes with level repository: one name can't stand for many"
    elif rule.repository is None and draft.only_repository is None:
        yield path, "give `repository` or `level: namespace`: the scope has more than one"
    elif rule.repository is not None and not scope.covers(rule.repository):
        yield (*path, "repository"), f"{rule.repository!r} is not in the chain's scope"
    namespace = rule.rename.namespace or scope.namespace
    if rule.to == scope.instance and namespace == scope.namespace and not rule.rename.repository:
        yield (*path, "to"), "is the home registry: the image is there already"


def _twice(path: KeyPath, names: Mapping[int, str]) -> Iterator[Complaint]:
    seen: set[str] = set()
    for index, name in names.items():
        if name in seen:
            yield (*path, index, "name"), f"{name!r} is used twice"
        seen.add(name)


def fleet_problems(specs: Mapping[str, ChainSpec]) -> Iterator[tuple[str, Complaint]]:
    """Yield every conflict between specs, as (file, complaint): a name used twice, two equally narrow scopes.

    Args:
        specs: Valid specs by file name.

    Source: docs/chain-spec.md, "scope": the narrower scope takes an event, two equally narrow ones are an error.
    """
    names: dict[str, list[str]] = defaultdict(list)
    covered: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for file, spec in specs.items():
        names[spec.name].append(file)
        for repository in spec.scope.repositories or ("*",):
            covered[spec.scope.instance, spec.scope.namespace, repository].append(file)
    for name, files in names.items():
        for file, others in _shared(files):
            yield file, (("name",), f"chain {name!r} is defined by {others} too")
    for (_, namespace, repository), files in covered.items():
        key: KeyPath = ("scope", "all") if repository == "*" else ("scope", "repositories")
        for file, others in _shared(files):
            yield (
                file,
                (key, f"{namespace}/{repository} is also covered by {others}, whose scope is just as narrow"),
            )


def _shared(files: Sequence[str]) -> Iterable[tuple[str, str]]:
    if len(files) < 2:  # noqa: PLR2004 - shared means by two
        return
    for file in files:
        yield file, " and ".join(other for other in files if other != file)
