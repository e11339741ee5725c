"""Determine what a run has delivered, from the results its steps left for exactly its image. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from delivery_chain.core.plan import made_for
from delivery_chain.core.spec.filters import Destination, destination, fires_for
from delivery_chain.core.spec.slots import label_of
from delivery_chain.core.steps import FAILED, SUCCESS, Step

if TYPE_CHECKING:
    from delivery_chain.core.plan import Plan
    from delivery_chain.core.results import Published, Subject
    from delivery_chain.core.run.facts import Facts
    from delivery_chain.core.spec.model import ChainSpec

MOVING_NOTHING = frozenset({"ConfigurationError", "SealBroken", "Unjudged"})
"""Errors with which `publish` ends before moving a tag."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """Delivery progress of an image."""

    missing: str
    """First step without a result for the image; empty if none is missing."""
    judged: str = ""
    """The gate's sentence, if it passed the image."""
    published: bool = False
    overtaken: bool = False
    """Whether newer pushes hold all its tags."""
    kept: tuple[str, ...] = ()
    """Its tags that newer pushes hold; others are published."""
    attempted: bool = False
    """Whether `publish` began but left no result."""
    regions: tuple[str, ...] = ()
    """Regions that have the image."""
    triggered: int = 0
    """Number of triggers fired."""
    lacking: tuple[str, ...] = ()
    """Rules and triggers that apply to its tags but have no result, with their tasks' states: `far failed`."""

    @property
    def whole(self) -> bool:
        """Whether everything planned is proven to be done."""
        return not self.missing

    def __str__(self) -> str:
        """`passed with no findings, published, copied to west and east, 1 trigger fired`."""
        if not self.published:
            return "may have some of its tags" if self.attempted else "was not published"
        newer = f" but for {', '.join(self.kept)}, which a newer push holds" if self.kept else ""
        parts = [self.judged, "a newer push holds its tags" if self.overtaken else f"published{newer}"]
        parts += [f"copied to {' and '.join(self.regions)}"] if self.regions else []
        parts += (
            [f"{self.triggered} trigger{'s' if self.triggered != 1 else ''} fired"] if self.triggered else []
        )
        lacking = f"; NOT DONE: {', '.join(self.lacking)}" if self.lacking else ""
        return ", ".join(parts) + lacking


def delivered(facts: Facts) -> Delivered:
    """Determine how far the delivery of the run's image has progressed."""
    if facts.planned is None:
        return Delivered(missing=Step.PLAN)
    plan, spec = facts.planned.plan, facts.planned.spec
    subject = facts.subject if facts.is_current(Step.ASSEMBLE) else None
    if subject is None or subject.plan not in ("", made_for(plan, spec)):
        return Delivered(missing=_first_open(facts, Step.BUILD, Step.ASSEMBLE))
    verdict = facts.verdict if facts.is_current(Step.GATE) else None
    if verdict is None or verdict.digest != subject.digest or not verdict.passed:
        return Delivered(missing=_first_open(facts, Step.SCAN, Step.GATE))
    published = facts.published if facts.is_current(Step.PUBLISH) else None
    if published is None or published.digest != subject.digest:
        began = any(
            task.step == Step.PUBLISH and task.state == FAILED and task.error not in MOVING_NOTHING
            for task in facts.tasks
        )
        return Delivered(missing=Step.PUBLISH, judged=verdict.sentence, attempted=began)
    return _sent(facts, plan, spec, subject, published, verdict.sentence)


def _first_open(facts: Facts, step: str, after: str) -> str:
    """The mapped step, if one of its instances had work and did not succeed; otherwise the step after it."""
    states = {task.state for task in facts.tasks if task.step == step and not task.skipped_itself}
    return step if states - {SUCCESS} else after


def _sent(
    facts: Facts, plan: Plan, spec: ChainSpec, subject: Subject, published: Published, judged: str
) -> Delivered:
    held = published.held
    copies = {one.rule: one.region for one in facts.regions if one.digest == subject.digest}
    rules = [
        rule.name
        for rule in spec.replicate
        if isinstance(destination(spec, rule, plan.repository, held), Destination)
    ]
    fired = {one.trigger for one in facts.deliveries if one.digest in ("", subject.digest)}
    triggers = [one.name for one in spec.distribute if plan.announce and fires_for(one, held)]
    no_copy = _lacking(facts, spec, Step.REPLICATE, rules, set(copies))
    no_word = _lacking(facts, spec, Step.DISTRIBUTE, triggers, fired)
    return Delivered(
        missing=Step.REPLICATE if no_copy else Step.DISTRIBUTE if no_word else "",
        judged=judged,
        published=True,
        overtaken=bool(published.tags) and not held,
        kept=tuple(move.tag for move in published.tags if move.tag not in held),
        regions=tuple(copies[name] for name in rules if name in copies),
        triggered=len([name for name in triggers if name in fired]),
        lacking=tuple(f"{name} {state}" for name, state in (no_copy | no_word).items()),
    )


def _lacking(facts: Facts, spec: ChainSpec, step: str, names: list[str], proven: set[str]) -> dict[str, str]:
    """Names that are not done, each with its task's state.

    A result alone is no proof: the task may have been cleared since, and then stopped before it wrote a new one.
    """
    states = {
        label_of(spec, step, task.index) or task.label: task.state
        for task in facts.tasks
        if task.step == step
    }
    return {
        name: "without a result" if states.get(name) == SUCCESS else states.get(name) or "not begun"
        for name in names
        if name not in proven or states.get(name) != SUCCESS
    }
