"""Distinguishes an absent Variable or connection from an unreachable API server or database.

If the API server or its database does not respond, Airflow's SDK reports a Variable or connection as absent. A sensor
that believed this would forget its cursor, and a build would fail permanently.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from delivery_chain.errors import AirflowUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
NO_DAG = "delivery-chain"
"""Id of a Dag that does not exist. Any query that reaches the database will do, and one for its runs is cheap."""
CLIENT_ERRORS = range(400, 500)
SLOW_DOWN = frozenset({408, 425, 429})
"""Client errors (4xx) that are transient."""


def surely(ask: Callable[[], T | None]) -> T | None:
    """Call `ask`; return None only after Airflow's database has answered another query.

    Args:
        ask: Queries Airflow's SDK for one object, and returns None if the SDK reports it absent.

    Raises:
        AirflowUnreachable: It is unknown whether the object exists. Retryable.
    """
    found = ask()
    if found is not None:
        return found
    check_database()
    # Ask again: Airflow may have become reachable between the two queries.
    return ask()


def read_variable(key: str) -> str | None:
    """Return the value of a Variable, or None only if it certainly does not exist.

    Raises:
        AirflowUnreachable: It is unknown whether the Variable exists. Retryable.
    """
    from airflow.sdk import Variable  # noqa: PLC0415 - keeps it out of a Dag parse

    return surely(lambda: Variable.get(key, default=None))


def check_database() -> None:
    """Check that the API server and its database respond; does nothing outside tasks and triggers.

    Raises:
        AirflowUnreachable: One of them does not respond. Retryable.
    """
    from airflow.sdk.exceptions import AirflowRuntimeError  # noqa: PLC0415 - keeps it out of a Dag parse
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
            "The task will be retried"
        ) from error


def is_away(error: BaseException) -> bool:
    """Whether an error of Airflow's SDK means that the API server or its database did not respond."""
    from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType  # noqa: PLC0415 - as above

    if not isinstance(error, AirflowRuntimeError) or error.error.error is not ErrorType.API_SERVER_ERROR:
        return False
    # Without a status, no response arrived at all.
    detail: dict[str, Any] = error.error.detail or {}
    status = detail.get("status_code")
    return status not in CLIENT_ERRORS or status in SLOW_DOWN
