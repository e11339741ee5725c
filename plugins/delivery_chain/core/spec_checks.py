"""What has to fit together: fields of one spec, and specs with each other."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from delivery_chain.core.spec import BuildRule, ChainSpec, Level, ReplicateRule, Scope

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

KeyPath = tuple[str | int, ...]
Complaint = tuple[KeyPath, str]


def cross_problems(spec: ChainSpec) -> Iterator[Complaint]:
    """Everything wrong between the fields of one spec.

    Args:
        spec: May lack fields that did not validate (`model_construct`); what needs them is left out.
    """
    scope: Scope | None = getattr(spec, "scope", None)
    build = getattr(spec, "build", None)
    rules: Sequence[BuildRule] = build.rules if build else ()
    replicate: Sequence[ReplicateRule] = getattr(spec, "replicate", ())
    distribute = getattr(spec, "distribute", ())
    yield from _twice(("build", "rules"), [rule.name for rule in rules])
    yield from _twice(("replicate",), [rule.name for rule in replicate])
    yield from _twice(("distribute",), [trigger.name for trigger in distribute])
    for index, trigger in enumerate(distribute):
        for name in trigger.after or ():
            if name not in {rule.name for rule in replicate}:
                yield ("distribute", index, "after"), f"no replication rule is named {name!r}"
    if scope is not None:
        yield from _outside_scope(spec, scope, rules, replicate)


def _outside_scope(
    spec: ChainSpec, scope: Scope, rules: Sequence[BuildRule], replicate: Sequence[ReplicateRule]
) -> Iterator[Complaint]:
    sources = getattr(spec, "sources", {})
    for name in sources:
        if not scope.covers(name):
            yield ("sources", name), f"repository {name!r} is not in the chain's scope"
    for index, rule in enumerate(rules):
        repository = rule.repository or _only(scope)
        if repository is None:
            yield ("build", "rules", index), "say `repository`: the scope has more than one"
        elif not scope.covers(repository):
            yield ("build", "rules", index, "repository"), f"{repository!r} is not in the chain's scope"
        elif repository not in sources:
            yield ("build", "rules", index), f"`sources` has no entry for repository {repository!r}"
    for index, entry in enumerate(replicate):
        yield from _replication(scope, index, entry)


def _replication(scope: Scope, index: int, rule: ReplicateRule) -> Iterator[Complaint]:
    if rule.level is Level.NAMESPACE:
        if rule.rename.repository:
            yield (
                ("replicate", index, "as", "repository"),
                "goes with level repository: one name can't hold many",
            )
    elif rule.repository is None and _only(scope) is None:
        yield ("replicate", index), "say `repository` or `level: namespace`: the scope has more than one"
    elif rule.repository is not None and not scope.covers(rule.repository):
        yield ("replicate", index, "repository"), f"{rule.repository!r} is not in the chain's scope"
    if (
        rule.to == scope.instance
        and rule.rename.namespace in (None, scope.namespace)
        and not rule.rename.repository
    ):
        yield ("replicate", index, "to"), "is the home registry: the image is there already"


def _only(scope: Scope) -> str | None:
    return scope.repositories[0] if len(scope.repositories) == 1 else None


def _twice(path: KeyPath, names: Sequence[str]) -> Iterator[Complaint]:
    for index, name in enumerate(names):
        if name in names[:index]:
            yield (*path, index, "name"), f"{name!r} is used twice"


def fleet_problems(specs: Mapping[str, ChainSpec]) -> Iterator[tuple[str, Complaint]]:
    """Everything wrong between specs, as (file, complaint): a name used twice, two equally narrow scopes.

    Args:
        specs: Valid specs by file name.

    Source: chain-spec.md, "Scope": the narrower scope takes an event, two equally narrow ones are an error.
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
            yield file, (key, f"{namespace}/{repository} is covered just as narrowly by {others}")


def _shared(files: Sequence[str]) -> Iterable[tuple[str, str]]:
    if len(files) < 2:  # noqa: PLR2004 - shared means by two
        return
    for file in files:
        yield file, " and ".join(other for other in files if other != file)
