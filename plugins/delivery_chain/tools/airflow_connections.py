"""Airflow's connections over its REST API, for the commands that make them from any machine."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from delivery_chain.errors import ToolError, UsageError
from delivery_chain.tools.airflow_rest import NOT_FOUND, AirflowServer, Answer, Login, check_address, part

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

URL = "AIRFLOW_API_URL"
CONFLICT = 409
PAGE = 100
MOST = 10_000
"""Connections that are listed."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,199}")
"""As a chain spec takes it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where Airflow is."""
    parser.add_argument("--url", default="", help=f"Airflow's address, as in a browser; else {URL}")
    parser.add_argument("--allow-http", action="store_true", help="send the login over plain http")


def server_of(args: argparse.Namespace, environment: Mapping[str, str]) -> AirflowServer:
    """The Airflow that a command line and the environment name. Nothing is sent yet.

    Raises:
        UsageError, ConfigurationError: No address, no login, or one that can't be used.
    """
    url = args.url or environment.get(URL, "")
    if not url:
        raise UsageError(f"Airflow's address is missing: give --url, or set {URL}")
    address = check_address(url, allow_http=args.allow_http)
    return AirflowServer(address, Login.from_environment(environment))


def listed(server: AirflowServer) -> dict[str, str]:
    """The ids of all connections in Airflow's database, and their types.

    Raises:
        ToolError: Airflow did not answer, or refused.
    """
    found: dict[str, str] = {}
    while len(found) < MOST:
        query: dict[str, str | int] = {"limit": PAGE, "offset": len(found), "order_by": "connection_id"}
        answer = server.call("GET", "/connections", query=query)
        if not answer.ok:
            raise refused("connections", "a list of them", answer)
        page = answer.data.get("connections")
        page = page if isinstance(page, list) else []
        before = len(found)
        found |= {
            str(one.get("connection_id")): str(one.get("conn_type") or "").replace("-", "_")
            for one in page
            if isinstance(one, dict)
        }
        if len(page) < PAGE or len(found) == before:
            break
    return found


def make(server: AirflowServer, body: Mapping[str, Any]) -> bool:
    """Make a connection; False where one of this id is there.

    Raises:
        ToolError: Airflow did not answer, or refused.
    """
    answer = server.call("POST", "/connections", body=dict(body))
    if answer.status == CONFLICT:
        return False
    if not answer.ok:
        raise refused(f"connection {body['connection_id']!r}", "that Airflow makes it", answer)
    return True


def look(server: AirflowServer, name: str, conn_type: str) -> dict[str, Any]:
    """A connection of a type as it is, its secrets masked.

    Raises:
        ToolError: There is none, it is of another type; Airflow did not answer, or refused.
    """
    there = server.call("GET", f"/connections/{part(name)}")
    if there.status == NOT_FOUND:
        raise ToolError(f"connection {name!r} is not there: leave out --update to make it", tool="airflow")
    if not there.ok:
        raise refused(f"connection {name!r}", "what it is now", there)
    found = str(there.data.get("conn_type") or "").replace("-", "_")
    if found != conn_type:
        raise ToolError(
            f"connection {name!r}: expected type {conn_type}, found {found!r}, and it was left alone; "
            "choose another id, or delete it under Admin > Connections",
            tool="airflow",
        )
    return there.data


def change(server: AirflowServer, body: Mapping[str, Any]) -> None:
    """Make a connection that is there into another one.

    Raises:
        ToolError: Airflow did not answer, or refused.
    """
    name = str(body["connection_id"])
    answer = server.call("PATCH", f"/connections/{part(name)}", body=dict(body))
    if not answer.ok:
        raise refused(f"connection {name!r}", "that Airflow changes it", answer)


def refused(what: str, expected: str, answer: Answer) -> ToolError:
    """The error for an answer that is none."""
    may = "it was deleted just now" if answer.status == NOT_FOUND else "a user of role op or admin may"
    return ToolError(
        f"{what}: expected {expected}, found status {answer.status}: {answer.text}; {may}", tool="airflow"
    )
