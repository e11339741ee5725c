"""Manage Airflow connections over its REST API, for commands that run on any machine."""

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
"""Maximum number of connections to list."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,199}")
"""Connection ids that a chain spec accepts."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that locate Airflow."""
    parser.add_argument("--url", default="", help=f"Airflow's address, as in a browser (default: {URL})")
    parser.add_argument("--allow-http", action="store_true", help="allow sending the login over plain HTTP")


def server_of(args: argparse.Namespace, environment: Mapping[str, str]) -> AirflowServer:
    """Return the Airflow server named by command line and environment. Nothing is sent yet.

    Raises:
        UsageError, ConfigurationError: The address or login is missing or invalid.
    """
    url = args.url or environment.get(URL, "")
    if not url:
        raise UsageError(f"Airflow's address is missing: give --url, or set {URL}")
    address = check_address(url, allow_http=args.allow_http)
    return AirflowServer(address, Login.from_environment(environment))


def listed(server: AirflowServer) -> dict[str, str]:
    """Map the ids of all connections in Airflow's database to their types.

    Raises:
        ToolError: Airflow did not answer, or rejected the request.
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
    """Create a connection; return False if the id is already taken.

    Raises:
        ToolError: Airflow did not answer, or rejected the request.
    """
    answer = server.call("POST", "/connections", body=dict(body))
    if answer.status == CONFLICT:
        return False
    if not answer.ok:
        raise refused(f"connection {body['connection_id']!r}", "Airflow to create it", answer)
    return True


def look(server: AirflowServer, name: str, conn_type: str) -> dict[str, Any]:
    """Return a connection of a given type, its secrets masked.

    Raises:
        ToolError: The connection does not exist or is of another type; or Airflow did not answer, or rejected the
            request.
    """
    there = server.call("GET", f"/connections/{part(name)}")
    if there.status == NOT_FOUND:
        raise ToolError(
            f"connection {name!r} does not exist: leave out --update to create it", tool="airflow"
        )
    if not there.ok:
        raise refused(f"connection {name!r}", "its current values", there)
    found = str(there.data.get("conn_type") or "").replace("-", "_")
    if found != conn_type:
        raise ToolError(
            f"connection {name!r}: expected type {conn_type}, found {found!r}; it was left unchanged; "
            "choose another id, or delete it under Admin > Connections",
            tool="airflow",
        )
    return there.data


def change(server: AirflowServer, body: Mapping[str, Any]) -> None:
    """Update an existing connection.

    Raises:
        ToolError: Airflow did not answer, or rejected the request.
    """
    name = str(body["connection_id"])
    answer = server.call("PATCH", f"/connections/{part(name)}", body=dict(body))
    if not answer.ok:
        raise refused(f"connection {name!r}", "Airflow to update it", answer)


def refused(what: str, expected: str, answer: Answer) -> ToolError:
    """Build the error for a request that Airflow rejected."""
    may = (
        "it was deleted just now" if answer.status == NOT_FOUND else "a user of role op or admin may do this"
    )
    return ToolError(
        f"{what}: expected {expected}, found status {answer.status}: {answer.text}; {may}", tool="airflow"
    )
