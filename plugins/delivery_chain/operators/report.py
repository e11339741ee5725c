"""Close a run: record how it ended, remove its staging tags, and set the run's state accordingly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from delivery_chain.core.gate.judge import Verdict
from delivery_chain.core.plan import Plan, Planned
from delivery_chain.core.results import (
    DeliveryResult,
    Published,
    Quarantined,
    Record,
    RegionResult,
    Subject,
)
from delivery_chain.core.run.end import End
from delivery_chain.core.run.facts import Facts
from delivery_chain.core.run.state import Outcome, closed
from delivery_chain.core.spec.in_force import version
from delivery_chain.core.spec.slots import label_of
from delivery_chain.core.steps import FAILED, SKIPPED, STEPS, Step, Task
from delivery_chain.core.xcom_keys import RETURNED
from delivery_chain.errors import NotDelivered, RegistryError, SealBroken
from delivery_chain.operators.announced import leave_mark
from delivery_chain.operators.base import ChainOperator, V, leave, pull, pull_all
from delivery_chain.operators.quarantine import staging_tags
from delivery_chain.operators.reasons import reason_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import Context

    from delivery_chain.core.spec.model import ChainSpec
    from delivery_chain.operators.task_instance import TaskInstance

CLEANING_TRIES = 3
"""Maximum tries of this task to clean up a registry that fails; the maintenance Dag removes the rest."""


class ReportOperator(ChainOperator):
    """Remove the run's staging tags, leave a Record, and fail if the run did not deliver as it should.

    As a teardown, it runs whatever the states of the other tasks, and its state becomes the run's
    (`on_failure_fail_dagrun`).
    """

    def execute(self, context: Context) -> dict[str, Any]:
        """Return a Record as JSON.

        Raises:
            NotDelivered: The run did not deliver; the Record has been left. Not retryable.
            RegistryError: Staging tags could not be removed yet; the Record has been left. Retryable.
        """
        ti = context["ti"]
        facts = _facts(ti, self.log.warning)
        found = closed(facts)
        record = _record(context["dag"].dag_id, facts, found, context["dag_run"].clear_number or 0)
        # Push the record now, so that the run has it whatever happens during cleanup.
        ti.xcom_push(RETURNED, leave(context, record))
        self._mark(facts, found)
        removed = self._clean(ti, facts)
        left = leave(context, record.model_copy(update={"removed_staging": removed}))
        self.log.info("%s", found.sentence)
        if not found.good:
            ti.xcom_push(RETURNED, left)
            raise NotDelivered(found.sentence)
        return left

    def _mark(self, facts: Facts, found: Outcome) -> None:
        """Mark an image pushed by others as delivered, in its registry, because Airflow may purge old runs."""
        plan = facts.planned.plan if facts.planned else None
        if plan and plan.build is None and plan.announce and facts.subject and found.end is End.DELIVERED:
            leave_mark(plan, facts.subject, self.log)

    def _clean(self, ti: TaskInstance, facts: Facts) -> tuple[str, ...]:
        """Remove the run's staging tags, unless the chain keeps a blocked image under them."""
        if facts.planned is None or facts.altered:
            # Keep everything: a person has to inspect what was altered.
            return ()
        plan, verdict, kept = facts.planned.plan, facts.verdict, facts.quarantined
        blocked = verdict is not None and not verdict.passed
        # A failed quarantine left no result, and can be cleared only while the image exists.
        if plan.build is None or (blocked and (kept is None or kept.kept)):
            return ()
        removed: list[str] = []
        try:
            _remove(plan, removed)
        except RegistryError as refused:
            if refused.retryable and tries_of(ti, self.retries or 0) < CLEANING_TRIES:
                raise
            self.log.warning(
                "Staging tags of this run stay until the maintenance Dag removes them: %s", refused
            )
        return tuple(removed)


def tries_of(ti: TaskInstance, retries: int) -> int:
    """Count the tries of a task since it was last cleared, including this one.

    Clearing resets `max_tries` to the tries so far plus the task's retries.
    """
    return ti.try_number - (ti.max_tries - retries)


def _remove(plan: Plan, removed: list[str]) -> None:
    from delivery_chain.hooks.registry import OciRegistryHook

    with OciRegistryHook(plan.instance).client() as client:
        present = [tag for tag in staging_tags(plan) if client.head_digest(plan.name, tag)]
        for tag in present:
            client.delete_tag(plan.name, tag)
            removed.append(tag)


class _Left:
    """The proven results of the run's steps."""

    def __init__(self, ti: TaskInstance, warn: Callable[..., object]) -> None:
        self._ti = ti
        self._warn = warn
        self.altered: list[str] = []
        """Steps whose result was altered after they left it."""

    def one(self, task: str, model: type[V]) -> V | None:
        try:
            return pull(self._ti, task, model)
        except SealBroken as broken:
            self._note(task, broken)
            return None

    def all(self, task: str, model: type[V]) -> tuple[V, ...]:
        try:
            return pull_all(self._ti, task, model)
        except SealBroken as broken:
            self._note(task, broken)
            return ()

    def _note(self, task: str, broken: SealBroken) -> None:
        self.altered.append(task)
        self._warn("%s", broken)


def _facts(ti: TaskInstance, warn: Callable[..., object]) -> Facts:
    """Collect the results and states of the run's steps."""
    left = _Left(ti, warn)
    planned = left.one(Step.PLAN, Planned)
    tasks = _tasks(ti, planned.spec if planned else None)
    there = {task.step for task in tasks}
    return Facts(
        state="running",
        tasks=tasks,
        deleted=tuple(step for step in STEPS if step not in there),
        planned=planned,
        subject=left.one(Step.ASSEMBLE, Subject),
        verdict=left.one(Step.GATE, Verdict),
        published=left.one(Step.PUBLISH, Published),
        regions=left.all(Step.REPLICATE, RegionResult),
        deliveries=left.all(Step.DISTRIBUTE, DeliveryResult),
        quarantined=left.one(Step.QUARANTINE, Quarantined),
        # Keep this last: only now have all results been read, and is it known which were altered.
        altered=tuple(left.altered),
    )


def _tasks(ti: TaskInstance, spec: ChainSpec | None) -> tuple[Task, ...]:
    """Return the run's task instances in the order of the steps, with their reasons."""
    states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id]).get(ti.run_id, {})
    found = [_task(ti, *_split(name), str(state or ""), spec) for name, state in states.items()]
    order = {step: number for number, step in enumerate(STEPS)}
    return tuple(sorted(found, key=lambda one: (order.get(one.step, len(order)), one.index)))


def _split(name: str) -> tuple[str, int]:
    """Split an instance's name in Airflow, such as `replicate_3`, into task id and map index; -1 if not mapped."""
    step, _, index = name.rpartition("_")
    return (step, int(index)) if step and index.isdecimal() else (name, -1)


def _task(ti: TaskInstance, step: str, index: int, state: str, spec: ChainSpec | None) -> Task:
    reason, error = reason_of(ti, step, index) if state in {FAILED, SKIPPED} else ("", "")
    label = label_of(spec, step, index)
    return Task(step=step, index=index, state=state, label=label, reason=reason, error=error)


def _record(chain: str, facts: Facts, found: Outcome, clears: int) -> Record:
    about = {"end": str(found.end), "step": found.step, "sentence": found.sentence}
    if facts.planned is None:
        return Record(chain=chain, image="", tags=(), clears=clears, **about)
    plan = facts.planned.plan

    def states(step: str) -> dict[str, str]:
        """Return the state of each instance of a mapped step, by its label."""
        return {task.label or str(task.index): task.state for task in facts.tasks if task.step == step}

    return Record(
        chain=plan.chain,
        image=plan.name,
        tags=plan.tags,
        digest=facts.subject.digest if facts.subject else "",
        verdict=facts.verdict.sentence if facts.verdict else "",
        commit=plan.build.commit if plan.build else "",
        ref=plan.build.ref if plan.build else "",
        version=version(facts.planned.number, facts.planned.fingerprint),
        regions=states(Step.REPLICATE),
        triggers=states(Step.DISTRIBUTE),
        clears=clears,
        **about,
    )
