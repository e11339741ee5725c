"""What the sandbox asks Airflow's REST API: runs, task instances, XComs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import requests

from delivery_chain.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_SECONDS = 15.0
PAGE = 100
"""Airflow's own upper limit of a page, `[api] maximum_page_limit`."""
NOT_FOUND = 404
UNAUTHORIZED = 401


class AirflowApi:
    """One login at one Airflow on this machine. A context manager."""

    def __init__(self, base: str, user: str, password: str) -> None:
        self._base = base
        self._login = {"username": user, "password": password}
        self._session = requests.Session()
        # Never through a proxy, and no credentials from ~/.netrc.
        self._session.trust_env = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """The newest runs of a Dag, newest first; empty when there is no such Dag (yet)."""
        answer = self.call(
            "GET", f"/dags/{_part(dag_id)}/dagRuns", query={"order_by": "-run_after", "limit": PAGE}
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
        path = f"/dags/{_part(dag_id)}/dagRuns/{_part(run_id)}/taskInstances"
        return list(self.call("GET", path, query={"limit": PAGE}).get("task_instances", []))

    def xcom(
        self, dag_id: str, run_id: str, task_id: str, *, map_index: int = -1, key: str = "return_value"
    ) -> Any:
        """One XCom's value, or None when there is none."""
        path = f"/dags/{_part(dag_id)}/dagRuns/{_part(run_id)}/taskInstances/{_part(task_id)}/xcomEntries"
        return self.call("GET", f"{path}/{_part(key)}", query={"map_index": map_index}).get("value")

    def variable(self, key: str) -> str | None:
        """A Variable's text, or None when there is none."""
        return self.call("GET", f"/variables/{_part(key)}").get("value")

    def trigger(self, dag_id: str, run_id: str, conf: dict[str, Any] | None = None) -> dict[str, Any]:
        """Start a run by hand."""
        body = {"dag_run_id": run_id, "logical_date": None, "conf": conf or {}}
        return self.call("POST", f"/dags/{_part(dag_id)}/dagRuns", body=body)

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
        url = f"{self._base}/api/v2{path}"
        try:
            answer = self._send(method, url, body, query or {})
            if answer.status_code == UNAUTHORIZED:
                self._log_in()
                answer = self._send(method, url, body, query or {})
        except requests.RequestException as error:
            raise ToolError(f"{method} {url}: no answer from Airflow: {error}", tool="airflow") from error
        if answer.status_code == NOT_FOUND:
            return {}
        if not answer.ok:
            raise ToolError(
                f"{method} {url}: expected success, found status {answer.status_code}:",
                tool="airflow",
                output=answer.text[:2000].splitlines(),
            )
        found: dict[str, Any] = answer.json()
        return found

    def _send(
        self, method: str, url: str, body: dict[str, Any] | None, query: Mapping[str, str | int]
    ) -> requests.Response:
        return self._session.request(method, url, json=body, params=query, timeout=TIMEOUT_SECONDS)

    def _log_in(self) -> None:
        answer = self._session.post(f"{self._base}/auth/token", json=self._login, timeout=TIMEOUT_SECONDS)
        if not answer.ok:
            raise ToolError(
                f"{self._base}/auth/token: Airflow refuses the login, status {answer.status_code}; "
                "the password is in the state folder's secrets.json",
                tool="airflow",
            )
        self._session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"


def _part(text: str) -> str:
    return quote(text, safe="")
