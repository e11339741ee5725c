"""What is done again when a run goes on that had ended, or was stopped. Pure.

Airflow resets the tasks that somebody clears, and no others. What follows them did not run, because the run was
cancelled or because what is before it failed, and Airflow never looks at it again by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.core.run.delivered import delivered
from delivery_chain.core.run.marks import CLEARED, MARKED, QUEUED, REOPENED
from delivery_chain.core.steps import BEFORE, CLOSING, DONE, FAILED, NOT_RUN, Step, Task

if TYPE_CHECKING:
    from collections.abc import Iterable

    from delivery_chain.core.run.marks import Mark
    from delivery_chain.core.run.state import Facts


def to_look_at(facts: Facts) -> tuple[Task, ...]:
    """The instances that Airflow has to look at again, since the run goes on: those that did not run.

    They follow a step that is done again, or were skipped by nobody but the person who stopped the run. What ran stays
    as it is. One that the chain itself skipped is skipped once more, or not, if what decides it is another now.
    """
    found = list(left_behind(facts))
    again = _busy(facts) | {task.step for task in found}
    for step, before in BEFORE.items():
        if again.intersection(before):
            found += _not_run(facts, step)
            again |= {task.step for task in found}
    return tuple(dict.fromkeys(found))


def left_behind(facts: Facts) -> tuple[Task, ...]:
    """The instances of the first step without a result, where nothing failed or is on its way, and somebody cleared.

    A run that was cancelled between two tasks has no failed one to clear, and one that is cleared while it ends goes on
    without having ended.
    """
    if facts.altered or facts.of(FAILED) or _busy(facts) or not _is_to_go_on(facts.marks):
        return ()
    missing = delivered(facts).missing
    stuck = _not_run(facts, missing)
    # A plan that found nothing to do has no result, and none is missing.
    return () if missing == Step.PLAN and any(task.skipped_itself for task in stuck) else tuple(stuck)


def is_stuck(facts: Facts) -> bool:
    """Whether a run ended although somebody had cleared something for it to go on; true once for each clear."""
    return bool(left_behind(facts)) and not any(mark.what == REOPENED for mark in facts.marks)


def going_on(marks: Iterable[Mark]) -> str:
    """What is said of a run that goes on after its end."""
    by = next((mark.by for mark in reversed(list(marks)) if mark.what == CLEARED), "")
    return f"going on{f': cleared by {by}' if by else ''}"


def _busy(facts: Facts) -> set[str]:
    """The steps that are on their way, or cleared."""
    return {task.step for task in facts.tasks if task.state not in DONE and task.step not in CLOSING}


def _not_run(facts: Facts, step: str) -> list[Task]:
    """A step's instances that did not run, those left out that somebody marked one by one."""
    marks = [mark for mark in facts.marks if mark.what in MARKED]
    return [
        task
        for task in facts.tasks
        if task.step == step and task.state in NOT_RUN and not any(mark.about(task) for mark in marks)
    ]


def _is_to_go_on(marks: Iterable[Mark]) -> bool:
    """Whether somebody cleared the run, or more of it than the steps that tell of its end, and nobody stopped it."""
    marks = list(marks)
    stopped = any(mark.what in MARKED and not mark.step for mark in marks)
    return not stopped and any(mark.what in (CLEARED, QUEUED) and mark.step not in CLOSING for mark in marks)
