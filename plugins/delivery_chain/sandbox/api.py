"""What the sandbox asks Airflow's REST API: runs, task instances, XComs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from delivery_chain.airflow_rest import NOT_FOUND, AirflowServer, Login, part
from delivery_chain.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_SECONDS = 15.0
PAGE = 100
"""Airflow's own upper limit of a page, `[api] maximum_page_limit`."""


class AirflowApi:
    """One login at one Airflow on this machine. A context manager."""

    def __init__(self, base: str, user: str, password: str) -> None:
        self._server = AirflowServer(base, Login(user=user, password=password), timeout=TIMEOUT_SECONDS)

    @property
    def address(self) -> str:
        """Where it is, as in a browser."""
        return self._server.address

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """The newest runs of a Dag, newest first; empty when there is no such Dag (yet)."""
        answer = self.call(
            "GET", f"/dags/{part(dag_id)}/dagRuns", query={"order_by": "-run_after", "limit": PAGE}
        )
        return list(answer.get("dag_runs", []))

    def dags(self, *, tag: str = "") -> list[dict[str, Any]]:
        """The Dags, or those with a tag."""
        given: dict[str, str | int] = {"tags": tag} if tag else {}
        return list(self.call("GET", "/dags", query=given | {"limit": PAGE}).get("dags", []))

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
        self, dag_id: str, run_id: str, task_id: str, *, map_index: int = -1, key: str = "return_value"
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
        """Send one request below `/api/v2`; an absent thing is an empty object.

        Raises:
            ToolError: No answer, or any other status than success and 404.
        """
        answer = self._server.call(method, path, body=body, query=query)
        if answer.status == NOT_FOUND:
            return {}
        if not answer.ok:
            raise ToolError(
                f"{method} {self._server.address}/api/v2{path}: expected success, found status {answer.status}:",
                tool="airflow",
                output=answer.text.splitlines(),
            )
        return answer.data
