"""Resume a run that had ended or was stopped: decide which tasks to reset. Pure.

Airflow resets only the tasks that a user clears. Downstream tasks that did not run, because the run was cancelled or
because an upstream task failed, would never be scheduled again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.core.run.delivered import delivered
from delivery_chain.core.run.marks import CLEARED, MARKED, QUEUED, REOPENED
from delivery_chain.core.steps import BEFORE, CLOSING, DONE, FAILED, NOT_RUN, Step, Task

if TYPE_CHECKING:
    from collections.abc import Iterable

    from delivery_chain.core.run.facts import Facts
    from delivery_chain.core.run.marks import Mark


def to_reset(facts: Facts) -> tuple[Task, ...]:
    """Task instances to reset so that Airflow schedules them again: those that did not run.

    They are downstream of a step that runs again, or were skipped only because a user stopped the run. Instances that
    ran are left alone. An instance that the chain itself skipped is reset as well, and decides again whether to skip.
    """
    found = list(stalled(facts))
    again = _busy(facts) | {task.step for task in found}
    for step, before in BEFORE.items():
        if again.intersection(before):
            found += _not_run(facts, step)
            again |= {task.step for task in found}
    return tuple(dict.fromkeys(found))


def stalled(facts: Facts) -> tuple[Task, ...]:
    """Instances of the first step without a result, if a user cleared something and nothing failed or is in flight.

    A run that was cancelled between two tasks has no failed one to clear, and one that is cleared while it ends
    resumes without having ended.
    """
    if facts.altered or facts.of(FAILED) or _busy(facts) or not _is_resumed(facts.marks):
        return ()
    missing = delivered(facts).missing
    stuck = _not_run(facts, missing)
    # A plan that found nothing to do has no result, and needs none.
    return () if missing == Step.PLAN and any(task.skipped_itself for task in stuck) else tuple(stuck)


def is_stuck(facts: Facts) -> bool:
    """Whether a run ended although a user had cleared tasks to resume it; true once per clear."""
    return bool(stalled(facts)) and not any(mark.what == REOPENED for mark in facts.marks)


def resumed(marks: Iterable[Mark]) -> str:
    """Note for a run that resumes after its end."""
    by = next((mark.by for mark in reversed(list(marks)) if mark.what == CLEARED), "")
    return f"resumed{f': cleared by {by}' if by else ''}"


def _busy(facts: Facts) -> set[str]:
    """Steps in flight or cleared."""
    return {task.step for task in facts.tasks if task.state not in DONE and task.step not in CLOSING}


def _not_run(facts: Facts, step: str) -> list[Task]:
    """A step's instances that did not run, except those marked individually."""
    marks = [mark for mark in facts.marks if mark.what in MARKED]
    return [
        task
        for task in facts.tasks
        if task.step == step and task.state in NOT_RUN and not any(mark.about(task) for mark in marks)
    ]


def _is_resumed(marks: Iterable[Mark]) -> bool:
    """Whether a user cleared the run, or more than its reporting steps, and did not stop it afterwards."""
    marks = list(marks)
    stopped = any(mark.what in MARKED and not mark.step for mark in marks)
    return not stopped and any(mark.what in (CLEARED, QUEUED) and mark.step not in CLOSING for mark in marks)
