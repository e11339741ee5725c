"""The parts of a task instance that steps use exist in Airflow's, and in the tests' stand-in."""

from __future__ import annotations

import inspect

import pytest
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from delivery_chain.operators.task_instance import TaskInstance
from support.chain_steps import Task

MEMBERS = [name for name in vars(TaskInstance) if not name.startswith("_")]
METHODS = [name for name in MEMBERS if inspect.isfunction(getattr(TaskInstance, name))]


def names(kind: type) -> set[str]:
    """What an instance of a class has."""
    return {name for one in kind.__mro__ for name in (*vars(one), *getattr(one, "__annotations__", {}))}


@pytest.mark.parametrize("kind", [RuntimeTaskInstance, Task])
def test_everything_is_there(kind: type) -> None:
    """Airflow's class is the one that tasks are given."""
    assert sorted(set(MEMBERS) - names(kind)) == []


@pytest.mark.parametrize("method", METHODS)
def test_airflow_takes_the_arguments(method: str) -> None:
    """By the same names."""
    ours = inspect.signature(getattr(TaskInstance, method)).parameters
    theirs = inspect.signature(getattr(RuntimeTaskInstance, method)).parameters
    assert sorted(set(ours) - set(theirs) - {"self"}) == []
