"""What the sandbox asks Airflow's REST API: runs, task instances, XComs."""

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
"""From a question's first try to its last: an API server on a busy machine misses one now and then."""
PAUSE_SECONDS = 1.0
PAGE = 100
"""Airflow's own upper limit of a page, `[api] maximum_page_limit`."""
MOST_PAGES = 100
SERVER_ERROR = 500


class AirflowApi:
    """One login at one Airflow on this machine. A context manager."""

    def __init__(
        self,
        base: str,
        user: str,
        password: str,
        *,
        patience: float = PATIENCE_SECONDS,
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        """Nothing is sent yet.

        Args:
            base: Airflow's address.
            user: Of the login.
            password: Of the login.
            patience: Seconds for which a question that got no answer is asked again.
            timeout: Seconds for one answer.
        """
        self._server = AirflowServer(base, Login(user=user, password=password), timeout=timeout)
        self._patience = patience

    @property
    def address(self) -> str:
        """Where it is, as in a browser."""
        return self._server.address

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """The newest runs of a Dag, newest first; empty when there is no such Dag (yet). `~` is all Dags."""
        answer = self.call(
            "GET", f"/dags/{part(dag_id)}/dagRuns", query={"order_by": "-run_after", "limit": PAGE}
        )
        return list(answer.get("dag_runs", []))

    def dags(self, *, tag: str = "") -> list[dict[str, Any]]:
        """The Dags, or those with a tag."""
        given: dict[str, str | int] = {"tags": tag} if tag else {}
        return self._all("/dags", "dags", given | {"order_by": "dag_id"})

    def connections(self) -> dict[str, str]:
        """The ids of all connections, and their types."""
        found = self._all("/connections", "connections", {"order_by": "connection_id"})
        # Airflow's own command stores the type as it was written, and finds the hook of `oci-registry` too.
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
        """The exception that ended a try of a task, from its log: its class and its words; empty where none is told."""
        path = f"/dags/{part(dag_id)}/dagRuns/{part(run_id)}/taskInstances/{part(task_id)}/logs/{number}"
        lines = self.call("GET", path, query={"full_content": "true"}).get("content")
        for line in reversed(lines if isinstance(lines, list) else []):
            if isinstance(line, dict) and (detail := line.get("error_detail")):
                return str(detail[0].get("exc_type", "")), str(detail[0].get("exc_value", ""))
        return "", ""

    def import_errors(self) -> list[str]:
        """What keeps Dag files from being read, as `file: last line`."""
        answer = self.call("GET", "/importErrors", query={"limit": PAGE})
        return [
            f"{error['filename']}: {error['stack_trace'].strip().splitlines()[-1]}"
            for error in answer.get("import_errors", [])
        ]

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """All task instances of a run, mapped ones too."""
        path = f"/dags/{part(dag_id)}/dagRuns/{part(run_id)}/taskInstances"
        return list(self.call("GET", path, query={"limit": PAGE}).get("task_instances", []))

    def xcom(
        self, dag_id: str, run_id: str, task_id: str, *, map_index: int = -1, key: str = RETURNED
    ) -> Any:
        """One XCom's value, or None when there is none."""
        path = f"/dags/{part(dag_id)}/dagRuns/{part(run_id)}/taskInstances/{part(task_id)}/xcomEntries"
        return self.call("GET", f"{path}/{part(key)}", query={"map_index": map_index}).get("value")

    def variable(self, key: str) -> str | None:
        """A Variable's text, or None when there is none."""
        return self.call("GET", f"/variables/{part(key)}").get("value")

    def trigger(self, dag_id: str, run_id: str, conf: dict[str, Any] | None = None) -> dict[str, Any]:
        """Start a run by hand."""
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
        """Send one request below `/api/v2`, a question again while none answers it; an absent thing is an empty object.

        Raises:
            AirflowUnreachable: No answer, or a server error.
            ToolError: Any other status than success and 404.
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
