"""A value that Airflow's SDK reports as missing counts as missing only if its database answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import DRCount, ErrorResponse, GetConnection, GetDRCount, GetVariable

from delivery_chain.errors import AirflowUnreachable, ConfigurationError
from delivery_chain.hooks.absence import read_variable, surely
from delivery_chain.hooks.connection import read_connection

if TYPE_CHECKING:
    from collections.abc import Callable

GONE = ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"status_code": None})
FAILED = ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"status_code": 500})
DENIED = ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"status_code": 403})
MISSING = {
    GetVariable: ErrorResponse(error=ErrorType.VARIABLE_NOT_FOUND),
    GetConnection: ErrorResponse(error=ErrorType.CONNECTION_NOT_FOUND),
}


class Supervisor:
    """A task's supervisor whose API server has no Variable and no connection."""

    def __init__(self, database: ErrorResponse | None, names: ErrorResponse | None = None) -> None:
        self.database = database
        self.names = names

    def send(self, message: Any) -> Any:
        error = self.database if isinstance(message, GetDRCount) else self.names
        if error:
            raise AirflowRuntimeError(error)
        return DRCount(count=0) if isinstance(message, GetDRCount) else MISSING[type(message)]


def around(monkeypatch: pytest.MonkeyPatch, supervisor: Supervisor) -> None:
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor, raising=False)


# With the database away the API server itself answers 404 for Variables and connections.
AWAY = [Supervisor(GONE, GONE), Supervisor(FAILED, FAILED), Supervisor(FAILED)]


READS = {
    "variable": lambda: read_variable("cursor"),
    "connection": lambda: read_connection("home", "oci_registry"),
}


@pytest.mark.parametrize("supervisor", AWAY)
@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_what_an_airflow_that_is_away_has_is_not_missing(
    monkeypatch: pytest.MonkeyPatch, supervisor: Supervisor, read: Callable[[], object]
) -> None:
    """It is read again later: a sensor that took its cursor for missing would begin anew, and lose every push."""
    around(monkeypatch, supervisor)
    with pytest.raises(AirflowUnreachable):
        read()


def test_what_is_not_there_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database answered."""
    around(monkeypatch, Supervisor(None))
    assert read_variable("cursor") is None
    with pytest.raises(ConfigurationError, match="connection 'home' is missing"):
        read_connection("home", "oci_registry")


def test_it_may_be_back_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database came back after the first answer: the second one counts."""
    around(monkeypatch, Supervisor(None))
    answers = iter([None, "text"])
    assert surely(lambda: next(answers)) == "text"


def test_a_refusal_is_no_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told as it is."""
    around(monkeypatch, Supervisor(DENIED))
    with pytest.raises(AirflowRuntimeError):
        read_variable("cursor")


def test_outside_tasks_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command reads Variables without a supervisor."""
    monkeypatch.delattr(task_runner, "SUPERVISOR_COMMS", raising=False)
    assert surely(lambda: None) is None
