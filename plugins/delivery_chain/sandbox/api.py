"""Queries Airflow's REST API for the sandbox: runs, task instances, XComs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self

from delivery_chain.core.xcom_keys import RETURNED
from delivery_chain.errors import AirflowUnreachable, ToolError
from delivery_chain.tools.airflow_rest import NOT_FOUND, AirflowServer, Login, part

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_SECONDS = 30.0
PATIENCE_SECONDS = 180.0
"""Retry window of a GET request: an API server on a busy machine occasionally fails to respond."""
PAUSE_SECONDS = 1.0
PAGE = 100
"""Page size; Airflow's own maximum, `[api] maximum_page_limit`."""
MOST_PAGES = 100
SERVER_ERROR = 500


class AirflowApi:
    """A client for one Airflow on this machine, with one login. A context manager."""

    def __init__(
        self,
        base: str,
        user: str,
        password: str,
        *,
        patience: float = PATIENCE_SECONDS,
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        """Create the client; sends nothing yet.

        Args:
            base: Airflow's address.
            user: User name of the login.
            password: Password of the login.
            patience: Seconds for which to retry GET requests that get no response.
            timeout: Seconds to wait for one response.
        """
        self._server = AirflowServer(base, Login(user=user, password=password), timeout=timeout)
        self._patience = patience

    @property
    def address(self) -> str:
        """Airflow's address, as in a browser."""
        return self._server.address

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """The latest runs of a Dag, newest first; empty if the Dag does not exist (yet). `~` means all Dags."""
        answer = self.call(
            "GET", f"/dags/{part(dag_id)}/dagRuns", query={"order_by": "-run_after", "limit": PAGE}
        )
        return list(answer.get("dag_runs", []))

    def dags(self, *, tag: str = "") -> list[dict[str, Any]]:
        """All Dags, or those with a tag."""
        given: dict[str, str | int] = {"tags": tag} if tag else {}
        return self._all("/dags", "dags", given | {"order_by": "dag_id"})

    def connections(self) -> dict[str, str]:
        """Map the ids of all connections to their types."""
        found = self._all("/connections", "connections", {"order_by": "connection_id"})
        # Airflow's CLI stores the type as it was typed, and finds the hook of `oci-registry` too.
        return {one["connection_id"]: (one["conn_type"] or "").replace("-", "_") for one in found}

    def _all(self, path: str, key: str, query: Mapping[str, str | int]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for _ in range(MOST_PAGES):
            page = self.call("GET", path, query={**query, "limit": PAGE, "offset": len(found)}).get(key, [])
            found += page
            if len(page) < PAGE:
                break
        return found

    def failure(self, dag_id: str, run_id: str, task_id: str, number: int) -> tuple[str, str]:
        """Class and message of the exception that ended a task attempt, from its log; both empty if none is logged."""
        path = f"/dags/{part(dag_id)}/dagRuns/{part(run_id)}/taskInstances/{part(task_id)}/logs/{number}"
        lines = self.call("GET", path, query={"full_content": "true"}).get("content")
        for line in reversed(lines if isinstance(lines, list) else []):
            if isinstance(line, dict) and (detail := line.get("error_detail")):
                return str(detail[0].get("exc_type", "")), str(detail[0].get("exc_value", ""))
        return "", ""

    def import_errors(self) -> list[str]:
        """Import errors of Dag files, as `file: last line`."""
        answer = self.call("GET", "/importErrors", query={"limit": PAGE})
        return [
            f"{error['filename']}: {error['stack_trace'].strip().splitlines()[-1]}"
            for error in answer.get("import_errors", [])
        ]

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """All task instances of a run, including mapped ones."""
        path = f"/dags/{part(dag_id)}/dagRuns/{part(run_id)}/taskInstances"
        return list(self.call("GET", path, query={"limit": PAGE}).get("task_instances", []))

    def xcom(
        self, dag_id: str, run_id: str, task_id: str, *, map_index: int = -1, key: str = RETURNED
    ) -> Any:
        """The value of an XCom, or None if it does not exist."""
        path = f"/dags/{part(dag_id)}/dagRuns/{part(run_id)}/taskInstances/{part(task_id)}/xcomEntries"
        return self.call("GET", f"{path}/{part(key)}", query={"map_index": map_index}).get("value")

    def variable(self, key: str) -> str | None:
        """The value of a Variable, or None if it does not exist."""
        return self.call("GET", f"/variables/{part(key)}").get("value")

    def trigger(self, dag_id: str, run_id: str, conf: dict[str, Any] | None = None) -> dict[str, Any]:
        """Trigger a manual run."""
        body = {"dag_run_id": run_id, "logical_date": None, "conf": conf or {}}
        return self.call("POST", f"/dags/{part(dag_id)}/dagRuns", body=body)

    def call(
        self,
        method: str,
        path: str,
        *,
        body: dict[str, Any] | None = None,
        query: Mapping[str, str | int] | None = None,
    ) -> dict[str, Any]:
        """Send one request below `/api/v2`; retry a GET that gets no response; return an empty object for a 404.

        Raises:
            AirflowUnreachable: No response came, or a server error.
            ToolError: The status is neither success nor 404.
        """
        until = time.monotonic() + (self._patience if method == "GET" else 0)
        while True:
            try:
                return self._call(method, path, body, query)
            except AirflowUnreachable:
                if time.monotonic() >= until:
                    raise
            time.sleep(PAUSE_SECONDS)

    def _call(
        self, method: str, path: str, body: dict[str, Any] | None, query: Mapping[str, str | int] | None
    ) -> dict[str, Any]:
        answer = self._server.call(method, path, body=body, query=query)
        if answer.status == NOT_FOUND:
            return {}
        if not answer.ok:
            kind = AirflowUnreachable if answer.status >= SERVER_ERROR else ToolError
            raise kind(
                f"{method} {self._server.address}/api/v2{path}: expected success, found status {answer.status}:",
                tool="airflow",
                output=answer.text.splitlines(),
            )
        return answer.data
