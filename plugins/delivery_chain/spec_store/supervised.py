"""Reads and writes Airflow's Variables through the supervisor of a task's or a Dag file's process.

Unlike the SDK's own `Variable.get`, this distinguishes an unreachable server from an absent Variable.
"""

from __future__ import annotations

import sys
from typing import Any

_RUNNER = "airflow.sdk.execution_time.task_runner"
LARGEST = 4 * 1024 * 1024
"""Maximum length of a Variable to read, in characters."""


def is_supervised() -> bool:
    """Whether this process has a supervisor: true in the Dag processor and in tasks, not on a command line."""
    return _comms() is not None


def read(key: str) -> str | None:
    """The value of a Variable; None only if it certainly does not exist.

    Airflow reports a Variable as absent even if its database is unreachable. The list of keys distinguishes the two: it
    comes from the database or not at all.

    Raises:
        AirflowRuntimeError: Airflow did not respond. Retryable.
        ValueError: It is larger than any Variable that this package writes.
    """
    from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType  # noqa: PLC0415 - loaded wherever a supervisor exists
    from airflow.sdk.execution_time.comms import ErrorResponse, GetVariable  # noqa: PLC0415 - loaded wherever a supervisor exists

    answer = _comms().send(GetVariable(key=key))
    if isinstance(answer, ErrorResponse):
        if answer.error is ErrorType.VARIABLE_NOT_FOUND and key not in keys(key):
            return None
        raise AirflowRuntimeError(answer)
    text: str | None = answer.value
    if text is not None and len(text) > LARGEST:
        raise ValueError(f"Variable {key}: expected at most {LARGEST} characters, found {len(text)}")
    return text


def write(key: str, text: str, about: str) -> None:
    """Set a Variable.

    Raises:
        AirflowRuntimeError: Airflow did not accept it. Retryable.
    """
    from airflow.sdk import Variable  # noqa: PLC0415 - loaded wherever a supervisor exists

    Variable.set(key, text, description=about)


def delete(key: str) -> None:
    """Delete a Variable if it exists.

    Raises:
        AirflowRuntimeError: Airflow did not accept it. Retryable.
    """
    from airflow.sdk import Variable  # noqa: PLC0415 - loaded wherever a supervisor exists

    if read(key) is not None:
        Variable.delete(key)


def keys(prefix: str) -> list[str]:
    """Names of all Variables with this prefix.

    Raises:
        AirflowRuntimeError: Airflow did not respond. Retryable.
    """
    from airflow.sdk import Variable  # noqa: PLC0415 - loaded wherever a supervisor exists

    return list(Variable.keys(prefix))


def _comms() -> Any:
    # If the module is not imported yet, this process has no supervisor, and importing it would be pointless.
    return getattr(sys.modules.get(_RUNNER), "SUPERVISOR_COMMS", None)
