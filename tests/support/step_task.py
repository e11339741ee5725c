"""A task instance of a step without an Airflow: its XComs, states and store."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from support.chain_steps import Run


DAY = datetime(2026, 5, 20, 12, 0, tzinfo=UTC)
"""Time of the pushes in these tests, by default."""
_ANY = object()
RETRIES = 18
"""Context of a step's task."""


@dataclass(slots=True)
class Task:
    """A running task instance, with the parts of Airflow's that steps use."""

    run: Run
    task_id: str
    map_index: int = -1
    try_number: int = 1

    @property
    def dag_id(self) -> str:
        return self.run.spec.name

    @property
    def run_id(self) -> str:
        return self.run.run_id

    @property
    def max_tries(self) -> int:
        return self.run.max_tries.get((self.task_id, self.map_index), RETRIES)

    def xcom_push(self, key: str, value: Any) -> None:
        self.run.xcoms[self.task_id, self.map_index, key] = json.loads(json.dumps(value))

    def xcom_pull(
        self,
        task_ids: str | list[str],
        dag_id: str | None = None,
        key: str = "return_value",
        *,
        map_indexes: Any = _ANY,
        run_id: str | None = None,
    ) -> Any:
        """Source: airflow.sdk.execution_time.task_runner, RuntimeTaskInstance.xcom_pull."""
        xcoms = self.run.xcoms if run_id is None else self.run.others.get((dag_id, run_id), {})
        single = isinstance(task_ids, str)
        names = [task_ids] if isinstance(task_ids, str) else task_ids
        if map_indexes is not _ANY:
            return xcoms.get((names[0], map_indexes, key))
        found = [
            value
            for name in names
            for (task, _, said), value in sorted(xcoms.items(), key=lambda item: item[0][1])
            if (task, said) == (name, key)
        ]
        return found[0] if single and len(found) == 1 else found

    def get_task_states(self, dag_id: str, run_ids: list[str]) -> dict[str, Any]:
        return {self.run.run_id: dict(self.run.states)} if run_ids == [self.run.run_id] else {}

    def get_dr_count(self, dag_id: str, run_ids: list[str], states: list[str]) -> int:
        return sum(self.run.run_states.get((dag_id, run_id)) in states for run_id in run_ids)

    def get_dagrun_state(self, dag_id: str, run_id: str) -> str:
        state = self.run.run_states[dag_id, run_id]
        if isinstance(state, Exception):
            raise state
        return state


class Store(dict[str, Any]):
    """A task's state, which outlives its tries."""

    def set(self, key: str, value: Any) -> None:
        self[key] = json.loads(json.dumps(value))
