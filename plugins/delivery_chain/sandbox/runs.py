"""Folds the task instances of a run, as the REST API returns them, into one line per step for the demo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from delivery_chain.core.steps import STEPS
from delivery_chain.sandbox.console import align, seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

FINISHED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
RUN_FINISHED = frozenset({"success", "failed"})
COLOURS = {"success": "green", "failed": "red", "running": "yellow", "skipped": "dim"}
_WORST_FIRST = ("failed", "upstream_failed", "up_for_retry", "running", "queued", "scheduled", "deferred")


@dataclass(frozen=True, slots=True)
class Instance:
    """One task instance."""

    task: str
    index: int
    """The map index; -1 for unmapped tasks."""
    label: str
    """The rendered map index, such as `linux/amd64`; empty until the instance has run, and for unmapped tasks."""
    state: str
    """Airflow's state; empty before the task is scheduled."""
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Step:
    """All instances of one task."""

    task: str
    state: str
    done: int
    total: int
    seconds: float | None
    """Duration of the longest instance."""

    def __str__(self) -> str:
        if self.state in {"", "skipped"}:
            return self.state or "-"
        count = f" {self.done}/{self.total}" if self.total > 1 else ""
        time = f" {seconds(self.seconds)}" if self.seconds is not None else ""
        return f"{self.state}{count}{time}"


def read_instances(raw: Iterable[Mapping[str, Any]]) -> list[Instance]:
    """Parse the REST API's task instances, sorted in step order; those of unknown tasks come last."""
    order = {task: number for number, task in enumerate(STEPS)}
    ordered = sorted(raw, key=lambda one: (order.get(one["task_id"], len(order)), one.get("map_index", -1)))
    return [
        Instance(
            task=one["task_id"],
            index=one.get("map_index", -1),
            label=_label(one),
            state=one.get("state") or "",
            seconds=one.get("duration"),
        )
        for one in ordered
    ]


def _label(raw: Mapping[str, Any]) -> str:
    # Airflow returns the index itself if the label's template was not rendered.
    label = str(raw.get("rendered_map_index") or "")
    return "" if label == str(raw.get("map_index")) else label


def fold(instances: Sequence[Instance]) -> list[Step]:
    """Fold instances into one step per task, in their order."""
    tasks = dict.fromkeys(instance.task for instance in instances)
    return [_fold_one(task, [one for one in instances if one.task == task]) for task in tasks]


def _fold_one(task: str, instances: Sequence[Instance]) -> Step:
    states = [instance.state for instance in instances]
    # A step that built one platform and skipped another succeeded.
    state = next((state for state in _WORST_FIRST if state in states), "")
    if not state and all(one in FINISHED for one in states):
        state = "success" if "success" in states else states[0]
    elif not state and any(one in FINISHED for one in states):
        state = "running"
    times = [instance.seconds for instance in instances if instance.seconds is not None]
    done = sum(one in FINISHED for one in states)
    return Step(task, state, done, len(states), max(times, default=None))


def board(titles: Sequence[str], runs: Sequence[Sequence[Step]]) -> list[tuple[str, str]]:
    """Lay out runs side by side, one line per step and one column per run, with each line's colour."""
    by_task = [{step.task: step for step in run} for run in runs]
    rows = [["step", *titles]]
    rows += [[task, *(str(run[task]) if task in run else "-" for run in by_task)] for task in STEPS]
    colours = ["dim"]
    for task in STEPS:
        states = [run[task].state for run in by_task if task in run]
        shown = (COLOURS[one] for one in ("running", "failed", "success") if one in states)
        colours.append(next(shown, "dim"))
    return [("  " + line, colour) for line, colour in zip(align(rows), colours, strict=True)]


def changes(before: Sequence[Instance], after: Sequence[Instance]) -> list[str]:
    """One line for each instance that has started or finished since, for output to a pipe."""
    known = {(one.task, one.index): one.state for one in before}
    said = []
    for one in after:
        if one.state == known.get((one.task, one.index), "") or one.state not in FINISHED | {"running"}:
            continue
        time = f" in {seconds(one.seconds)}" if one.seconds and one.state in {"success", "failed"} else ""
        name = f"{one.task} [{one.label}]" if one.label else one.task
        said.append(f"{name}: {one.state}{time}")
    return said
