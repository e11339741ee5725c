"""What a task keeps between its tries, in Airflow's task state, and what of it a clear forgets.

Airflow's state of a task outlives a clear, but clearing means doing again. A clear is told from a retry by the task
instance's `max_tries`: a clear sets it to the tries so far plus the task's retries, a retry leaves it.
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
    """A value in the task's state. It is sealed: whoever may edit a Dag may edit that state, too."""

    def __init__(self, context: Context, key: str) -> None:
        """Read nothing yet.

        Args:
            context: Airflow's.
            key: Name of the value within the task's state.
        """
        ti = context["ti"]
        self._store = context["task_state_store"]
        self._key = key
        self._generation = ti.max_tries
        self._place = place_of(ti, key=f"state {key}")

    def get(self) -> Any:
        """What this try or one before it set since the task was last cleared; None where that is nothing proven."""
        found = self._proven()
        return found.get("value") if found.get("generation") == self._generation else None

    def ever(self) -> Any:
        """What any try set last, also before a clear; None where that is nothing proven."""
        return self._proven().get("value")

    def set(self, value: Any) -> None:
        """Keep JSON for the next try."""
        kept = {"value": value, "generation": self._generation}
        self._store.set(self._key, sealed(kept, self._place, _secret()))

    def _proven(self) -> dict[str, Any]:
        data = self._store.get(self._key)
        return data if isinstance(data, dict) and is_sealed(data, self._place, _secret()) else {}


def _secret() -> str:
    # Not at the top: a parse of a Dag file imports this module, and asks for no Variable.
    from delivery_chain.hooks.signing_secret import signing_secret

    return signing_secret()
