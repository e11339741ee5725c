"""A run's task instances, summarized for the demo."""

from __future__ import annotations

import pytest

from delivery_chain.sandbox import runs
from delivery_chain.sandbox.runs import Instance, Step


def instance(task: str, state: str, label: str = "", seconds: float | None = None) -> Instance:
    return Instance(task, -1, label, state, seconds)


def test_instances_are_read_in_reading_order() -> None:
    """Whatever order the API answers in: the chain's steps in theirs, mapped instances with their labels."""
    raw = [
        {"task_id": "own", "map_index": -1, "state": None, "duration": None},
        {"task_id": "build", "map_index": 1, "rendered_map_index": "linux/arm64", "state": "running"},
        {"task_id": "build", "map_index": 0, "rendered_map_index": "0", "state": "success", "duration": 2.0},
        {"task_id": "plan", "map_index": -1, "state": "success", "duration": 0.5},
    ]
    assert runs.read_instances(raw) == [
        Instance("plan", -1, "", "success", 0.5),
        Instance("build", 0, "", "success", 2.0),
        Instance("build", 1, "linux/arm64", "running", None),
        Instance("own", -1, "", "", None),
    ]


@pytest.mark.parametrize(
    ("states", "folded"),
    [
        (["success", "skipped"], "success"),
        (["skipped", "skipped"], "skipped"),
        (["success", "failed", "running"], "failed"),
        (["success", "running"], "running"),
        (["success", ""], "running"),
        (["", ""], ""),
    ],
)
def test_a_step_has_the_state_that_matters_most(states: list[str], folded: str) -> None:
    """A failure shows before all else; a step of which something is open is not done."""
    (step,) = runs.fold([instance("scan", state) for state in states])
    assert step.state == folded


def test_a_step_counts_and_times_its_instances() -> None:
    """How many are done, and the longest time."""
    folded = runs.fold([instance("build", "success", "a", 2.0), instance("build", "success", "b", 11.0)])
    assert folded == [Step("build", "success", 2, 2, 11.0)]
    assert str(folded[0]) == "success 2/2 11 s"


def test_the_board_has_a_line_a_step_and_a_column_a_run() -> None:
    """Both runs side by side, steps that are not there yet as a dash, the line in the colour that matters."""
    board = runs.board(
        ["v1.0.0", "v1.1.0"],
        [[Step("plan", "success", 1, 1, 0.4)], [Step("plan", "running", 0, 1, None)]],
    )
    assert board[:3] == [
        ("  step        v1.0.0         v1.1.0", "dim"),
        ("  plan        success 0.4 s  running", "yellow"),
        ("  build       -              -", "dim"),
    ]


def test_a_pipe_is_told_each_change_once() -> None:
    """What began or ended since the last look is said; what only waits is not."""
    before = [instance("plan", "running"), instance("build", "", "linux/amd64")]
    after = [
        instance("plan", "success", seconds=0.44),
        instance("build", "queued", "linux/amd64"),
        instance("publish", "skipped"),
    ]
    assert runs.changes(before, after) == ["plan: success in 0.4 s", "publish: skipped"]
    assert runs.changes(after, after) == []
