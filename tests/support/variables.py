"""Airflow's Variables as a supervisor provides them, without Airflow, with faults on demand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import (
    DeleteVariable,
    ErrorResponse,
    GetVariable,
    GetVariableKeys,
    PutVariable,
    VariableKeysResult,
    VariableResult,
)

if TYPE_CHECKING:
    import pytest


@dataclass
class Variables:
    """A supervisor that supports Variables only."""

    held: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """`read key`, `write key`, `delete key` or `list prefix`, in order."""
    broken: set[str] = field(default_factory=set)
    """Kinds of request that fail."""
    hidden: bool = False
    """Whether each Variable is reported as missing, as when Airflow's database is down."""

    def send(self, msg: Any) -> Any:
        """Respond to one request."""
        if isinstance(msg, GetVariable):
            self._note("read", msg.key)
            if self.hidden or msg.key not in self.held:
                return ErrorResponse(error=ErrorType.VARIABLE_NOT_FOUND, detail={"key": msg.key})
            return VariableResult(key=msg.key, value=self.held[msg.key])
        if isinstance(msg, PutVariable):
            self._note("write", msg.key)
            self.held[msg.key] = str(msg.value)
        elif isinstance(msg, DeleteVariable):
            self._note("delete", msg.key)
            del self.held[msg.key]
        elif isinstance(msg, GetVariableKeys):
            self._note("list", msg.prefix or "")
            keys = [key for key in self.held if key.startswith(msg.prefix or "")]
            return VariableKeysResult(keys=keys, total_entries=len(keys))
        return None

    def took(self, *kinds: str) -> list[str]:
        """The requests of these kinds since the last call."""
        found = [line for line in self.asked if line.split()[0] in kinds]
        self.asked.clear()
        return found

    def _note(self, kind: str, what: str) -> None:
        self.asked.append(f"{kind} {what}")
        if kind in self.broken:
            raise AirflowRuntimeError(
                ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"status_code": 500})
            )


def supervise(monkeypatch: pytest.MonkeyPatch) -> Variables:
    """Give this process a supervisor until the test ends."""
    made = Variables()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", made, raising=False)
    return made
