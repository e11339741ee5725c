"""The benchmark of Dag creation compares equal work."""

from __future__ import annotations

from benchmarks.factory import TASKS, hand_written, release_chain

from delivery_chain.dag_files.factory import make_chain_dag


def test_the_hand_written_dag_has_the_steps_of_a_chain() -> None:
    """The same tasks with the same edges."""
    by_hand, made = hand_written(0, form_last=True), make_chain_dag(release_chain())
    edges = {task.task_id: task.downstream_task_ids for task in made.tasks}
    assert {task.task_id: task.downstream_task_ids for task in by_hand.tasks} == edges
    assert len(edges) == TASKS
