"""The state that a task keeps between its tries."""

from __future__ import annotations

from typing import Any

import pytest

from delivery_chain.operators.task_memory import Memory
from support.chain_steps import Run, chain


@pytest.fixture
def run() -> Run:
    return Run(chain())


def memory(run: Run, task: str = "distribute", index: int = 0) -> Memory:
    return Memory(run.context(task, index), "seen")


@pytest.mark.parametrize("value", [0, "", [], {"a": [1, None]}, "x"])
def test_a_retry_finds_what_the_try_before_it_kept(run: Run, value: Any) -> None:
    """Any JSON, also what is false."""
    memory(run).set(value)
    run.tries["distribute", 0] = 1
    assert (memory(run).get(), memory(run).ever()) == (value, value)


@pytest.mark.parametrize("tries", [1, 2, 19])
def test_a_clear_forgets(run: Run, tries: int) -> None:
    """However many tries there were; what was kept is history, and the next try keeps its own."""
    memory(run).set("old")
    run.tries["distribute", 0] = tries
    run.clear("distribute", 0)
    assert (memory(run).get(), memory(run).ever()) == (None, "old")
    memory(run).set("new")
    assert (memory(run).get(), memory(run).ever()) == ("new", "new")


def test_each_clear_forgets(run: Run) -> None:
    """The second one, too."""
    for value in ("a", "b", "c"):
        assert memory(run).get() is None
        memory(run).set(value)
        run.tries["distribute", 0] = run.tries.get(("distribute", 0), 0) + 1
        run.clear("distribute", 0)


@pytest.mark.parametrize("other", [("distribute", 1), ("replicate", 0)])
def test_what_another_task_kept_is_not_believed(run: Run, other: tuple[str, int]) -> None:
    """Whoever may edit a Dag may copy it."""
    memory(run).set("mine")
    run.context(*other)["task_state_store"].update(run.context("distribute", 0)["task_state_store"])
    assert (memory(run, *other).get(), memory(run, *other).ever()) == (None, None)


@pytest.mark.parametrize("change", [{"generation": 99}, {"value": "theirs"}])
def test_what_was_changed_is_not_believed(run: Run, change: dict[str, Any]) -> None:
    """The seal covers the value, and when it was kept."""
    memory(run).set("mine")
    store = run.context("distribute", 0)["task_state_store"]
    store.set("seen", store["seen"] | change)
    assert (memory(run).get(), memory(run).ever()) == (None, None)
