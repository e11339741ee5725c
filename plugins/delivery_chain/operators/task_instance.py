"""Type of the part of Airflow's running task instance that the steps use, and the place of its XComs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from delivery_chain.core.seal import Place
from delivery_chain.core.xcom_keys import RETURNED

if TYPE_CHECKING:
    from collections.abc import Iterable


class TaskInstance(Protocol):
    """A running task instance. Source: airflow.sdk.types, RuntimeTaskInstanceProtocol."""

    @property
    def dag_id(self) -> str: ...
    @property
    def run_id(self) -> str: ...
    @property
    def task_id(self) -> str: ...
    @property
    def map_index(self) -> int | None:
        """Index of a mapped instance; -1 or None for a task that is not mapped."""

    @property
    def try_number(self) -> int:
        """Number of this try; 1 for the first. A clear does not reset it."""

    @property
    def max_tries(self) -> int:
        """Number of tries before the last clear, plus the task's retries."""

    def xcom_push(self, key: str, value: Any) -> None:
        """Store JSON for later tasks under a key."""

    def xcom_pull(
        self,
        task_ids: str | Iterable[str] | None = None,
        dag_id: str | None = None,
        key: str = ...,
        *,
        map_indexes: int = ...,
        run_id: str | None = None,
    ) -> Any:
        """Return the JSON that a task left, or None; a list for several tasks or instances."""

    def get_task_states(
        self, dag_id: str, *, task_ids: list[str] | None = None, run_ids: list[str] | None = None
    ) -> dict[str, Any]:
        """Return states by run and task id, with the map index of instances: `{run_id: {"replicate_0": "success"}}`."""

    def get_dr_count(
        self, dag_id: str, *, run_ids: list[str] | None = None, states: list[str] | None = None
    ) -> int:
        """Return the number of a Dag's runs in any of the states."""

    def get_dagrun_state(self, dag_id: str, run_id: str) -> str:
        """Return a run's state. Raises AirflowRuntimeError if the run does not exist."""


def place_of(
    ti: TaskInstance, task_id: str | None = None, map_index: int | None = None, *, key: str = RETURNED
) -> Place:
    """Return the place of an XCom of a task of this run; by default, this task instance's return value."""
    if task_id is None:
        task_id, map_index = ti.task_id, ti.map_index
    return Place(ti.dag_id, ti.run_id, task_id, -1 if map_index is None else map_index, key)
