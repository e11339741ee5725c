"""Manual actions on a run, from Airflow's event log. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from delivery_chain.core.steps import CLOSING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from delivery_chain.core.steps import Task

MARKED = frozenset({"failed", "success", "skipped"})
"""States that users can give to a task by marking it; all but the last can also be given to a run."""
CLEARED, QUEUED = "cleared", "queued"
"""Other actions, after which the run resumes."""
REOPENED = "reopened"
"""An action of this package: a run that ended, although a user had cleared tasks to resume it, was reopened."""
REOPEN = "delivery_chain_reopen"
"""Name of that action's event in the log."""
ONE = frozenset(
    {"patch_dag_run", "patch_task_instance", "clear_dag_run", "post_clear_task_instances", REOPEN}
)
"""Events about one run, named in their rows: of Airflow's REST API, which the UI uses too, and of this package."""
MANY = frozenset({"bulk_dag_runs", "clear_dag_runs"})
"""Events about many runs, which only their bodies name. Airflow 3.3 logs no bulk request about task instances."""
LONGEST_NAME = 60
"""Maximum length, in characters, of a user's name to show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row of Airflow's event log."""

    event: str
    owner: str
    """User who did it."""
    dag_id: str = ""
    task_id: str = ""
    extra: str = ""
    """The request's body and query, as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One manual action."""

    by: str
    what: str
    """`failed`, `success`, `skipped`, `cleared`, `queued` or `reopened`."""
    step: str = ""
    """The task; empty if the whole run was marked or cleared."""
    index: int | None = None
    """The map index; None for all of them."""

    def about(self, task: Task) -> bool:
        """Whether it is about this task instance, and not about the run as a whole."""
        return self.step == task.step and self.index in (None, task.index)


def marks_of(dag_id: str, run_id: str, rows: Iterable[Row]) -> tuple[Mark, ...]:
    """Return the actions on a run that are in force: clearing undoes marks.

    Args:
        dag_id: The run's Dag.
        run_id: The run's id.
        rows: Rows of the event log, oldest first. A row is written before its request is executed, and stays even if
            the request is rejected: only the tasks' states show its effect.
    """
    standing: list[Mark] = []
    for row in rows:
        for mark in _read(dag_id, run_id, row):
            standing = [one for one in standing if not _undone(one, mark)]
            standing.append(mark)
    return tuple(standing)


def _undone(earlier: Mark, later: Mark) -> bool:
    """Whether the later action undoes the earlier one."""
    if later.what in (CLEARED, QUEUED) and not earlier.step and later.step not in CLOSING:
        # Clearing any part of a run resumes it. Clearing only its report does not undo that.
        return True
    if not later.step:
        # Stopping a run overrides what resumed it.
        return later.what == CLEARED or (later.what in MARKED and earlier.what in (CLEARED, QUEUED))
    return later.step == earlier.step and later.index in (None, earlier.index)


def _read(dag_id: str, run_id: str, row: Row) -> Iterator[Mark]:
    body = _json(row.extra)
    by = " ".join(row.owner.split())[:LONGEST_NAME] or "an unknown user"
    match row.event:
        case "patch_dag_run":
            yield from _mark(by, _sent(body, "state"))
        case "patch_task_instance":
            yield from _mark(by, _sent(body, "new_state"), row.task_id, _index(body.get("map_index")))
        case "post_clear_task_instances":
            yield from _cleared(by, body.get("task_ids"))
        case "clear_dag_run" | "delivery_chain_reopen":
            yield Mark(by=by, what=REOPENED if row.event == REOPEN else CLEARED)
        case "bulk_dag_runs":
            for one in _updated(body.get("actions")):
                if _is_ours(one, row.dag_id, dag_id, run_id):
                    yield from _mark(by, one.get("state"))
        case "clear_dag_runs":
            if body.get("dry_run") is False and any(
                _is_ours(one, row.dag_id, dag_id, run_id) for one in _dicts(body.get("dag_runs"))
            ):
                yield Mark(by=by, what=CLEARED)


def _sent(body: Mapping[str, Any], field: str) -> Any:
    """Return a field of a request if its `update_mask` includes the field: others are ignored by Airflow."""
    return body.get(field) if body.get("update_mask") in (None, field) else None


def _mark(by: str, what: Any, step: str = "", index: int | None = None) -> Iterator[Mark]:
    if isinstance(what, str) and what:
        yield Mark(by=by, what=what, step=step, index=index)


def _cleared(by: str, tasks: Any) -> Iterator[Mark]:
    if not isinstance(tasks, list):
        yield Mark(by=by, what=CLEARED)
        return
    for task in tasks:
        step, index = (task[0], _index(task[-1])) if isinstance(task, list) and task else (task, None)
        yield Mark(by=by, what=CLEARED, step=str(step), index=index)


def _updated(actions: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the targets of a bulk request's updates."""
    for action in _dicts(actions):
        if action.get("action") == "update":
            yield from _dicts(action.get("entities"))


def _is_ours(one: Mapping[str, Any], said: str, dag_id: str, run_id: str) -> bool:
    """Whether an item of a request is about this run. If the item names no Dag, the request's path did."""
    return one.get("dag_run_id") == run_id and (one.get("dag_id") or said) == dag_id


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    yield from (one for one in value if isinstance(one, dict)) if isinstance(value, list) else ()


def _index(value: Any) -> int | None:
    # A number from a path is a string in the log.
    text = str(value)
    return int(text) if text.removeprefix("-").isdecimal() and text.isascii() else None


def _json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
