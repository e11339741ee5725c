"""What the steps use of Airflow's running task instance, and where a task instance leaves things."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from delivery_chain.core.seal import Place
from delivery_chain.core.xcom_keys import RETURNED

if TYPE_CHECKING:
    from collections.abc import Iterable


class TaskInstance(Protocol):
    """A task instance while it runs. Source: airflow.sdk.types, RuntimeTaskInstanceProtocol."""

    @property
    def dag_id(self) -> str: ...
    @property
    def run_id(self) -> str: ...
    @property
    def task_id(self) -> str: ...
    @property
    def map_index(self) -> int | None:
        """-1 or None for a task that is not mapped."""

    @property
    def try_number(self) -> int:
        """1 for the first try; a clear goes on counting."""

    @property
    def max_tries(self) -> int:
        """The tries before the last clear plus the task's retries."""

    def xcom_push(self, key: str, value: Any) -> None:
        """Leave JSON for later tasks under a key."""

    def xcom_pull(
        self,
        task_ids: str | Iterable[str] | None = None,
        dag_id: str | None = None,
        key: str = ...,
        *,
        map_indexes: int = ...,
        run_id: str | None = None,
    ) -> Any:
        """JSON as a task left it; None where it left none. Of several tasks or instances a list."""

    def get_task_states(
        self, dag_id: str, *, task_ids: list[str] | None = None, run_ids: list[str] | None = None
    ) -> dict[str, Any]:
        """By run, the states by task id, an instance's with its map index: `{run_id: {"replicate_0": "success"}}`."""

    def get_dr_count(
        self, dag_id: str, *, run_ids: list[str] | None = None, states: list[str] | None = None
    ) -> int:
        """How many runs of a Dag are in one of the states."""

    def get_dagrun_state(self, dag_id: str, run_id: str) -> str:
        """A run's state. Raises AirflowRuntimeError where there is no such run."""


def place_of(
    ti: TaskInstance, task_id: str | None = None, map_index: int | None = None, *, key: str = RETURNED
) -> Place:
    """Where a task of this run leaves something, by default what it returns; this very task instance by default."""
    if task_id is None:
        task_id, map_index = ti.task_id, ti.map_index
    return Place(ti.dag_id, ti.run_id, task_id, -1 if map_index is None else map_index, key)
