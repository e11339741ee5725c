"""Airflow's Variables as a supervisor gives them to a task's or a Dag file's process.

The SDK's own `Variable.get` takes a server that does not answer for a Variable that is not there; here they differ.
"""

from __future__ import annotations

import sys
from typing import Any

_RUNNER = "airflow.sdk.execution_time.task_runner"
LARGEST = 4 * 1024 * 1024
"""Characters of a Variable that is read."""


def is_supervised() -> bool:
    """Whether there is a supervisor to ask: in the Dag processor and in tasks, not on a command line."""
    return _comms() is not None


def read(key: str) -> str | None:
    """A Variable's text; None where there is surely none.

    Airflow says of a Variable that there is none where its database is away, too. Its list of keys tells the two apart:
    that comes from the database or not at all.

    Raises:
        AirflowRuntimeError: Airflow can't tell. Another time it may.
        ValueError: It is larger than anything of ours.
    """
    from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType  # noqa: PLC0415 - loaded where there is a supervisor
    from airflow.sdk.execution_time.comms import ErrorResponse, GetVariable  # noqa: PLC0415 - loaded where there is a supervisor

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
        AirflowRuntimeError: Airflow did not take it. Another time it may.
    """
    from airflow.sdk import Variable  # noqa: PLC0415 - loaded where there is a supervisor

    Variable.set(key, text, description=about)


def delete(key: str) -> None:
    """Remove a Variable, if there is one.

    Raises:
        AirflowRuntimeError: Airflow did not take it. Another time it may.
    """
    from airflow.sdk import Variable  # noqa: PLC0415 - loaded where there is a supervisor

    if read(key) is not None:
        Variable.delete(key)


def keys(prefix: str) -> list[str]:
    """The names of all Variables that begin so.

    Raises:
        AirflowRuntimeError: Airflow can't tell. Another time it may.
    """
    from airflow.sdk import Variable  # noqa: PLC0415 - loaded where there is a supervisor

    return list(Variable.keys(prefix))


def _comms() -> Any:
    # Where nobody has imported it there is no supervisor, and the import would be for nothing.
    return getattr(sys.modules.get(_RUNNER), "SUPERVISOR_COMMS", None)
