"""Telling "there is none" from "nobody could look" in what Airflow's API server says of Variables and connections.

Where the API server does not answer, or its database does not, Airflow's SDK says of a Variable or a connection that
it is not there. Taken at its word, a sensor would forget what it has seen, and a build would fail for good.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from delivery_chain.errors import AirflowUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
NO_DAG = "delivery-chain"
"""An id to ask about: any question that the database has to answer does, and this one costs it nothing."""
CLIENT_ERRORS = range(400, 500)
SLOW_DOWN = frozenset({408, 425, 429})
"""Of the client's errors, those that pass."""


def surely(ask: Callable[[], T | None]) -> T | None:
    """What `ask` gives; None only after Airflow's database has answered another question.

    Args:
        ask: Asks Airflow's SDK for one thing, and gives None where that says there is none.

    Raises:
        AirflowUnreachable: It is not known whether there is one. Retryable.
    """
    found = ask()
    if found is not None:
        return found
    check_database()
    # It may have come back between the two.
    return ask()


def read_variable(key: str) -> str | None:
    """A Variable's text; None where there is surely none.

    Raises:
        AirflowUnreachable: Neither is known. Retryable.
    """
    from airflow.sdk import Variable  # noqa: PLC0415 - not in a module that a parse imports

    return surely(lambda: Variable.get(key, default=None))


def check_database() -> None:
    """See that the API server and its database answer; nothing is asked outside tasks and triggers.

    Raises:
        AirflowUnreachable: One of them does not. Retryable.
    """
    from airflow.sdk.exceptions import AirflowRuntimeError  # noqa: PLC0415 - not in a module that a parse imports
    from airflow.sdk.execution_time import task_runner  # noqa: PLC0415
    from airflow.sdk.execution_time.comms import GetDRCount  # noqa: PLC0415

    supervisor = getattr(task_runner, "SUPERVISOR_COMMS", None)
    if supervisor is None:
        return
    try:
        supervisor.send(GetDRCount(dag_id=NO_DAG, run_ids=[NO_DAG]))
    except AirflowRuntimeError as error:
        if not is_away(error):
            raise
        raise AirflowUnreachable(
            "Airflow's API server, or its database, does not answer, so Variables and connections can't be read. "
            "The task is tried again"
        ) from error


def is_away(error: BaseException) -> bool:
    """Whether an error of Airflow's SDK says that the API server or its database does not answer."""
    from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType  # noqa: PLC0415 - as above

    if not isinstance(error, AirflowRuntimeError) or error.error.error is not ErrorType.API_SERVER_ERROR:
        return False
    # Without a status there was no answer at all.
    detail: dict[str, Any] = error.error.detail or {}
    status = detail.get("status_code")
    return status not in CLIENT_ERRORS or status in SLOW_DOWN
