"""The outcome of a run: one pure function, shared by its state, note and page and `delivery-chain trigger --wait`.

A run counts as delivered only with proof: the sealed results of its steps for its image. Airflow's states are trusted
for failures, never for success, since a user may have set them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.core.names.reference import short_digest
from delivery_chain.core.run import blocked
from delivery_chain.core.run.delivered import Delivered, delivered
from delivery_chain.core.run.end import ENDED, FINE, WARNING, End
from delivery_chain.core.run.marks import MARKED
from delivery_chain.core.steps import (
    BUILT,
    FAILED,
    RETRYING,
    RUNNING,
    SKIPPED,
    SUCCESS,
    SUPERSEDED,
    Step,
    Task,
)
from delivery_chain.core.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from delivery_chain.core.gate.judge import Verdict
    from delivery_chain.core.run.facts import Facts
    from delivery_chain.core.run.marks import Mark

MOST_REASONS = 3
"""Most failed tasks of one run whose reasons its sentence lists."""
JOINS = frozenset({Step.ASSEMBLE, Step.GATE})
"""Steps that Airflow never skips once a plan exists: they run, or something upstream failed."""
KILLED = "it left no reason: it was marked by hand, or its worker was lost"
"""Reason of a failed step that left none itself."""
REFUSALS = frozenset({"EventRefused", "UsageError"})
"""Errors with which `plan` rejects an event."""


class Outcome(Value):
    """Outcome of a run."""

    end: End
    step: str = ""
    """Step in which it ended, such as `build [linux/amd64]`; empty if it did not end in a step."""
    by: str = ""
    """User who cancelled it, or marked it contrary to what it did."""
    sentence: str
    """Summary for people: the run's note."""
    good: bool
    """Whether it succeeded; only then its Airflow state is `success`."""


def outcome(facts: Facts) -> Outcome:
    """Determine how the run ended, or its progress."""
    if facts.state not in ENDED:
        return _open(facts)
    found = closed(facts)
    said = [found.sentence]
    if facts.record and facts.record.verdict and facts.verdict is None and Step.GATE not in facts.altered:
        said.append("its verdict was removed")
    marked = _against(facts, good=found.good)
    if marked:
        said.append(f"marked as {facts.state} by {marked}")
    elif found.good and facts.state == FAILED:
        said.append(f"Airflow has it as failed because of its task `{Step.REPORT}`: clear that task")
    good = found.good and facts.state == SUCCESS
    return found.model_copy(update={"good": good, "by": found.by or marked, "sentence": "; ".join(said)})


def closed(facts: Facts) -> Outcome:
    """Determine how the run ends by what its steps did, whatever state Airflow will give it."""
    found = _closed(facts)
    if not facts.altered:
        return found
    warning = f"{changed(facts.altered)}; {found.sentence}"
    return found.model_copy(update={"good": False, "sentence": warning})


def changed(altered: Iterable[str]) -> str:
    """Warning for a run whose values are not what its tasks left."""
    return f"{WARNING}: what {', '.join(altered)} left was changed afterwards"


def _closed(facts: Facts) -> Outcome:
    if facts.planned is None:
        return _unplanned(facts)
    if facts.verdict is not None and not facts.verdict.passed and facts.is_current(Step.GATE):
        return _blocked(facts, facts.verdict)
    done = delivered(facts)
    if not done.whole:
        return _undone(facts, done)
    end = End.SUPERSEDED if done.overtaken else End.DELIVERED
    return _outcome(end, f"{end}: {_title(facts)} {done}")


def _undone(facts: Facts, done: Delivered) -> Outcome:
    """Outcome of a run that lacks something, without a block by the gate."""
    title = _title(facts)
    stopped = _stopped(facts, done.missing)
    if stopped:
        by = _canceller(facts, stopped)
        first = f"cancelled{f' by {by}' if by else ''} in {_names(stopped)}"
        return _outcome(End.CANCELLED, f"{first}; {title} {done}", step=stopped[0].name, by=by)
    failed = facts.of(FAILED)
    step = failed[0].name if failed else done.missing
    title += _by_hand(facts)
    if done.published:
        said = f"partly delivered: {title} {done}"
        return _outcome(End.PARTLY, f"{said}; {_why(failed)}" if failed else said, step=step)
    unsaid = f"{step}: {_why_missing(facts, step)}: clear it and everything downstream"
    why = _why(failed) or _deleted(facts, step) or unsaid
    return _outcome(End.FAILED, f"failed in {why}; {title} {done}", step=step)


def _by_hand(facts: Facts) -> str:
    """Steps marked as success by hand, in parentheses: their work is missing downstream."""
    found = [
        f"{task.name} was marked as success by {mark.by}"
        for task in facts.of(SUCCESS)
        for mark in facts.marks
        if mark.what == SUCCESS and mark.about(task)
    ]
    return f" ({'; '.join(found[:MOST_REASONS])})" if found else ""


def _deleted(facts: Facts, step: str) -> str:
    deleted = step in facts.deleted and step not in facts.altered
    return f"{step}: its task was deleted: clear the run" if deleted else ""


def _why_missing(facts: Facts, step: str) -> str:
    """Why a step that did not fail has no result."""
    changed_there = any(name.partition("[")[0] == step for name in facts.altered)
    return "what it left was changed" if changed_there else "it did not run, or left nothing"


def _unplanned(facts: Facts) -> Outcome:
    plan = next((task for task in facts.tasks if task.step == Step.PLAN), Task(step=Step.PLAN))
    if plan.skipped_itself:
        end = {SUPERSEDED: End.SUPERSEDED, BUILT: End.BUILT}.get(plan.error, End.IGNORED)
        return _outcome(end, f"{end}: {plan.reason}")
    if plan.state == FAILED and plan.error in REFUSALS:
        return _outcome(End.REFUSED, f"refused: {plan.reason}", step=Step.PLAN)
    by = _canceller(facts, [plan])
    if plan.stopped or (not plan.reason and (by or plan.state == SKIPPED)):
        first = f"cancelled{f' by {by}' if by else ''} in plan"
        return _outcome(End.CANCELLED, f"{first}; nothing was built", step=Step.PLAN, by=by)
    why = plan.reason or (KILLED if plan.state == FAILED else "it did not run, or left nothing: clear it")
    said = _deleted(facts, Step.PLAN) or f"plan: {why}"
    return _outcome(End.FAILED, f"failed in {said}; nothing was built", step=Step.PLAN)


def _blocked(facts: Facts, verdict: Verdict) -> Outcome:
    plan = facts.planned.plan if facts.planned else None
    fate = blocked.note(plan, facts.quarantined) if plan else ""
    failed = _why([task for task in facts.of(FAILED) if task.step == Step.QUARANTINE])
    said = f"{verdict.sentence}; {_title(facts)}{fate}" + (f"; failed in {failed}" if failed else "")
    return _outcome(End.BLOCKED, said, step=Step.GATE)


def _open(facts: Facts) -> Outcome:
    """Outcome of a run that has not ended."""
    about = f"; {_title(facts)}" if facts.planned else ""
    ending = [mark for mark in facts.marks if _ends(mark)][-1:]
    about += "".join(f"; marked as {mark.what} by {mark.by}" for mark in ending)
    busy = facts.of(*RUNNING)
    again = facts.of(RETRYING)
    if facts.held and not busy:
        return _outcome(End.WAITING, f"waiting: {facts.held}{about}")
    if facts.state == "queued":
        return _outcome(End.WAITING, f"waiting: Airflow has not started it yet{about}")
    if again and not busy:
        said = f"waiting to try again: {_why(again)}{about}"
        return _outcome(End.WAITING, said, step=again[0].name)
    if facts.deleted and not busy:
        deleted = ", ".join(f"`{step}`" for step in facts.deleted)
        said = (
            f"waiting for {deleted}, which was deleted by hand: mark the run as failed, then clear it{about}"
        )
        return _outcome(End.WAITING, said, step=facts.deleted[0])
    where = f" {_names(busy)}" if busy else ""
    return _outcome(End.RUNNING, f"running{where}{about}", step=busy[0].name if busy else "")


def _ends(mark: Mark) -> bool:
    """Whether a user ended the run as a whole, which takes effect once its reporting steps have run."""
    return mark.what in MARKED and not mark.step


def _stopped(facts: Facts, missing: str) -> list[Task]:
    """Tasks that a user stopped, failed ones first; empty if each step ended on its own.

    A step that ends on its own leaves a result or a reason. When a run is marked, running tasks fail without a
    reason, and tasks that wait for a retry or have not begun are skipped.
    """
    killed = [task for task in facts.of(FAILED) if not task.reason]
    waited = [task for task in facts.of(SKIPPED) if task.stopped]
    skipped = [
        task for task in facts.of(SKIPPED) if task.step in {missing, *JOINS} and not task.skipped_itself
    ]
    skipped = [task for task in skipped if task.step == skipped[0].step]
    if _canceller(facts, killed + skipped):
        return [task for task in killed if _canceller(facts, [task])] or waited or skipped
    return (killed or waited) if skipped else waited


def _canceller(facts: Facts, tasks: Iterable[Task]) -> str:
    """User who stopped one of these tasks, by marking it or the whole run; empty if unknown."""
    for task in tasks:
        for mark in facts.marks:
            if _ends(mark) or (mark.what in MARKED and mark.about(task) and mark.what == task.state):
                return mark.by
    return ""


def _against(facts: Facts, *, good: bool) -> str:
    """User who marked the run contrary to what it did; `hand` if unknown, empty if nothing was marked."""
    if good == (facts.state == SUCCESS):
        return ""
    marks = [one for one in facts.marks if one.what == facts.state and one.step in ("", Step.REPORT)]
    if marks:
        return marks[-1].by
    # A clear of a run in which nothing failed resets nothing, and undoes the mark all the same.
    lost = any(task.step == Step.REPORT and task.state == FAILED for task in facts.tasks)
    return "" if good and lost else "hand"


def _title(facts: Facts) -> str:
    if facts.planned is None:
        return ""
    at = f" at {short_digest(facts.subject.digest)}" if facts.subject else ""
    return f"{facts.planned.plan.title}{at}"


def _names(tasks: Iterable[Task]) -> str:
    return ", ".join(task.name for task in tasks)


def _why(failed: list[Task]) -> str:
    """List the reasons: `build [linux/amd64]: Dockerfile:12: …`."""
    return "; ".join(f"{task.name}: {task.reason or KILLED}" for task in _first(failed))


def _first(failed: list[Task]) -> list[Task]:
    """Keep one task per reason: platforms often fail alike."""
    return list({task.reason or task.name: task for task in reversed(failed)}.values())[::-1][:MOST_REASONS]


def _outcome(end: End, sentence: str, *, step: str = "", by: str = "") -> Outcome:
    return Outcome(end=end, step=step, by=by, sentence=sentence, good=end in FINE)
