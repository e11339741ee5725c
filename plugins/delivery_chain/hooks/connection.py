"""Reads an Airflow connection into a frozen value, and masks its secrets in logs from then on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import mask_secret

from delivery_chain.core.connection_fields import ConnectionFields
from delivery_chain.core.spec.connections import COMMANDS, connect_command
from delivery_chain.errors import ConfigurationError, ConnectionMissing
from delivery_chain.hooks.absence import surely

if TYPE_CHECKING:
    from airflow.sdk import Connection

LONGEST_EXTRA = 256 * 1024
"""Maximum number of characters of a connection's extra: leaves room for CA bundles and keys."""


def read_connection(conn_id: str, conn_type: str) -> ConnectionFields:
    """Read a connection of one type and mask its password.

    Args:
        conn_id: Airflow's connection id.
        conn_type: The expected type, such as `oci_registry`.

    Raises:
        ConnectionMissing: No connection has this id. Not retryable.
        ConfigurationError: The connection has another type, or its extra is not a JSON object. Not retryable.
        AirflowUnreachable: It is unknown whether the connection exists. Retryable.
    """
    connection = surely(lambda: _found(conn_id))
    if connection is None:
        command = f", or with `{connect_command(conn_type, conn_id)}`" if conn_type in COMMANDS else ""
        raise ConnectionMissing(
            f"connection {conn_id!r} is missing: add it under Admin > Connections with type {conn_type}{command}"
        )
    mask(connection.password or "")
    fields = ConnectionFields(
        conn_id=conn_id,
        conn_type=(connection.conn_type or "").replace("-", "_"),
        host=(connection.host or "").strip(),
        login=connection.login or "",
        password=connection.password or "",
        port=connection.port,
        extra=_extra(conn_id, connection.extra or ""),
        mask=mask,
    )
    if fields.conn_type != conn_type:
        raise fields.wrong("conn_type", f"type {conn_type}", repr(fields.conn_type))
    return fields


def _found(conn_id: str) -> Connection | None:
    try:
        return BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        return None


def mask(secret: str) -> None:
    """Make Airflow replace a secret with `***` in this process's logs and its supervisor's."""
    if secret:
        mask_secret(secret)


def _extra(conn_id: str, text: str) -> dict[str, Any]:
    if len(text) > LONGEST_EXTRA:
        raise ConfigurationError(
            f"connection {conn_id!r}, extra: expected at most {LONGEST_EXTRA} characters, found {len(text)}"
        )
    try:
        extra = json.loads(text) if text.strip() else {}
    except ValueError:
        extra = None  # Do not repeat the text in the error: it may contain a credential.
    if not isinstance(extra, dict):
        raise ConfigurationError(
            f"connection {conn_id!r}, extra: expected a JSON object, found something else; "
            "correct it under Admin > Connections"
        )
    return extra
