"""Describe a chain in words, for the page of its Dag."""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.core.gate.judge import describe

if TYPE_CHECKING:
    from delivery_chain.core.spec.delivery import Trigger
    from delivery_chain.core.spec.model import BuildRule, ChainSpec
    from delivery_chain.core.spec.standing import Standing


def chain_doc(spec: ChainSpec, standing: Standing | None = None) -> str:
    """Render a chain as Markdown: the status of its version, what starts a run, what blocks an image, where it goes."""
    scope = spec.scope
    covered = (
        "every repository" + (f" but {', '.join(scope.exclude)}" if scope.exclude else "")
        if scope.all
        else ", ".join(scope.repositories)
    )
    lines = [
        standing.banner if standing else "",
        f"# {spec.name}",
        spec.description,
        f"Version {standing.version} of the spec." if standing and standing.version else "",
        f"Covers **{scope.namespace}**: {covered}, in registry `{scope.instance}`.",
    ]
    lines += _section("Builds", [_build(rule, spec) for rule in spec.build_rules]) or [
        "Builds nothing: starts with images that others push."
    ]
    lines += _section("Gate", [_gate(spec)])
    lines += _section(
        "Copies to", [f"`{rule.to}` ({rule.name}): tags `{rule.tags}`" for rule in spec.replicate]
    )
    lines += _section("Tells", [_trigger(trigger) for trigger in spec.distribute])
    return "\n\n".join(line for line in lines if line)


def _section(title: str, items: list[str]) -> list[str]:
    return [f"## {title}", "\n".join(f"- {item}" for item in items)] if items else []


def _build(rule: BuildRule, spec: ChainSpec) -> str:
    tags = ", ".join(
        f"`{tag.tag}{'-TIME' if tag.build_time else ''}{'-COMMIT' if tag.commit_id else ''}`"
        for tag in rule.tags
    )
    return f"**{rule.name}**: {rule.ref_kind} `{rule.pattern.text}` of {spec.repository_of(rule)} as {tags} for {', '.join(rule.platforms)}"  # noqa: E501 - one line of the page


def _gate(spec: ChainSpec) -> str:
    if not spec.scan.enabled:
        return "images are not scanned"
    if spec.scan.block is None:
        return f"scanned with {', '.join(spec.scan.engine)}, nothing blocks"
    after = spec.scan.block.on_block
    done = [word for word, wanted in (("backed up", after.backup), ("deleted", after.delete)) if wanted]
    clauses = "; ".join(describe(clause) for clause in spec.scan.block.clauses)
    return f"scanned with {', '.join(spec.scan.engine)}, blocked at: {clauses}; a blocked image is {' and '.join(done) or 'left where it is'}"  # noqa: E501 - one line of the page


def _trigger(trigger: Trigger) -> str:
    which = (
        "every tag"
        if trigger.on == "all"
        else f"tags `{trigger.on.regexp}`"
        if trigger.on.regexp
        else f"tags {', '.join(trigger.on.tags)}"
    )
    return f"**{trigger.name}** (`{trigger.url_connection}`): {which}"
