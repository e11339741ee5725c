"""Keep values between the tries of a task, in Airflow's task state, until the task is cleared.

Airflow's task state survives a clear, but clearing means starting over. The task instance's `max_tries` distinguishes
a clear from a retry: a clear sets it to the tries so far plus the task's retries, while a retry leaves it unchanged.
Source: airflow.models.taskinstance, clear_task_instances; airflow.jobs.scheduler_job_runner for a task that was cleared
while it ran.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from delivery_chain.core.seal import is_sealed, sealed
from delivery_chain.operators.task_instance import place_of

if TYPE_CHECKING:
    from airflow.sdk import Context


class Memory:
    """A value in the task's state. It is sealed, because anyone who may edit the Dag may edit that state, too."""

    def __init__(self, context: Context, key: str) -> None:
        """Bind the value to its task; reads nothing yet.

        Args:
            context: Airflow's task context.
            key: Name of the value within the task's state.
        """
        ti = context["ti"]
        self._store = context["task_state_store"]
        self._key = key
        self._generation = ti.max_tries
        self._place = place_of(ti, key=f"state {key}")

    def get(self) -> Any:
        """Return the value set since the last clear, by this try or an earlier one; None if its seal is not valid."""
        found = self._proven()
        return found.get("value") if found.get("generation") == self._generation else None

    def ever(self) -> Any:
        """Return the value set last, even if that was before a clear; None if its seal is not valid."""
        return self._proven().get("value")

    def set(self, value: Any) -> None:
        """Store a JSON value for the next try."""
        kept = {"value": value, "generation": self._generation}
        self._store.set(self._key, sealed(kept, self._place, _secret()))

    def _proven(self) -> dict[str, Any]:
        data = self._store.get(self._key)
        return data if isinstance(data, dict) and is_sealed(data, self._place, _secret()) else {}


def _secret() -> str:
    # Imported late, because parsing a Dag file imports this module but needs no Variable.
    from delivery_chain.hooks.signing_secret import signing_secret

    return signing_secret()
