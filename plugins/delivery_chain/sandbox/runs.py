"""Runs of a chain as the demo shows them: task instances of the REST API folded into one line a step."""

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
    """The map index; -1 for instances of tasks that are not mapped."""
    label: str
    """What a mapped instance stands for, such as `linux/amd64`; empty until it has run, and for others."""
    state: str
    """Airflow's state; empty while there is none."""
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Step:
    """All instances of one task."""

    task: str
    state: str
    done: int
    total: int
    seconds: float | None
    """The longest instance's."""

    def __str__(self) -> str:
        if self.state in {"", "skipped"}:
            return self.state or "-"
        count = f" {self.done}/{self.total}" if self.total > 1 else ""
        time = f" {seconds(self.seconds)}" if self.seconds is not None else ""
        return f"{self.state}{count}{time}"


def read_instances(raw: Iterable[Mapping[str, Any]]) -> list[Instance]:
    """Task instances of the REST API in reading order; those of unknown tasks come last."""
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
    # Airflow gives the index itself where the label's template was not rendered.
    label = str(raw.get("rendered_map_index") or "")
    return "" if label == str(raw.get("map_index")) else label


def fold(instances: Sequence[Instance]) -> list[Step]:
    """One step a task, in the order of the instances."""
    tasks = dict.fromkeys(instance.task for instance in instances)
    return [_fold_one(task, [one for one in instances if one.task == task]) for task in tasks]


def _fold_one(task: str, instances: Sequence[Instance]) -> Step:
    states = [instance.state for instance in instances]
    # A step of which one platform was skipped and another built is a success.
    state = next((state for state in _WORST_FIRST if state in states), "")
    if not state and all(one in FINISHED for one in states):
        state = "success" if "success" in states else states[0]
    elif not state and any(one in FINISHED for one in states):
        state = "running"
    times = [instance.seconds for instance in instances if instance.seconds is not None]
    done = sum(one in FINISHED for one in states)
    return Step(task, state, done, len(states), max(times, default=None))


def board(titles: Sequence[str], runs: Sequence[Sequence[Step]]) -> list[tuple[str, str]]:
    """A table of runs side by side: one line a step, one column a run; with each line's colour."""
    by_task = [{step.task: step for step in run} for run in runs]
    rows = [["step", *titles]]
    rows += [[task, *(str(run[task]) if task in run else "-" for run in by_task)] for task in STEPS]
    colours = ["dim"]
    for task in STEPS:
        states = [run[task].state for run in by_task if task in run]
        told = (COLOURS[one] for one in ("running", "failed", "success") if one in states)
        colours.append(next(told, "dim"))
    return [("  " + line, colour) for line, colour in zip(align(rows), colours, strict=True)]


def changes(before: Sequence[Instance], after: Sequence[Instance]) -> list[str]:
    """What to say on a pipe: one line for each instance that has finished or begun since."""
    known = {(one.task, one.index): one.state for one in before}
    said = []
    for one in after:
        if one.state == known.get((one.task, one.index), "") or one.state not in FINISHED | {"running"}:
            continue
        time = f" in {seconds(one.seconds)}" if one.seconds and one.state in {"success", "failed"} else ""
        name = f"{one.task} [{one.label}]" if one.label else one.task
        said.append(f"{name}: {one.state}{time}")
    return said
