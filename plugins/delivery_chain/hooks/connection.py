"""Reads one Airflow connection into a frozen value, and masks its secrets in logs from then on."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import mask_secret

from delivery_chain.core.spec.connections import COMMANDS, connect_command
from delivery_chain.errors import ConfigurationError, ConnectionMissing
from delivery_chain.hooks.absence import surely

if TYPE_CHECKING:
    from airflow.sdk import Connection

LONGEST_EXTRA = 256 * 1024
"""Maximum length of a connection's extra in characters, enough for CA bundles and keys."""
_CERTIFICATE = "-----BEGIN CERTIFICATE-----"
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0", ""})


@dataclass(frozen=True, slots=True)
class ConnectionFields:
    """The fields of a connection. Never logged."""

    conn_id: str
    conn_type: str
    host: str
    login: str
    password: str = field(repr=False)
    port: int | None
    extra: dict[str, Any] = field(repr=False)

    def text(self, name: str) -> str:
        """A text field of the extra; empty if absent."""
        value = self.extra.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.wrong(name, "a text", type(value).__name__)
        return value

    def secret(self, name: str) -> str:
        """A secret text field of the extra, masked in logs before it is returned."""
        value = self.text(name)
        mask(value)
        return value

    def flag(self, name: str) -> bool:
        """A boolean field of the extra; False if absent."""
        value = self.extra.get(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        text = str(value).strip().lower()
        if text not in _TRUE | _FALSE:
            raise self.wrong(name, "true or false", repr(text[:40]))
        return text in _TRUE

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        """An integer field of the extra."""
        value = self.extra.get(name)
        text = str(default) if value is None or value == "" else str(value).strip()
        if not (text.isascii() and text.isdecimal() and least <= int(text[:20]) <= most):
            raise self.wrong(name, f"a whole number from {least} to {most}", repr(text[:40]))
        return int(text)

    def certificate(self) -> str:
        """The field `ca_certificate`: PEM text, or empty to use the system's CAs."""
        text = self.text("ca_certificate").strip()
        if text and not text.startswith(_CERTIFICATE):
            raise self.wrong("ca_certificate", f"PEM text that begins with {_CERTIFICATE}", "another text")
        return f"{text}\n" if text else ""

    def wrong(self, name: str, expected: str, found: str) -> ConfigurationError:
        """Return the error for one field; `found` must not contain a secret."""
        return ConfigurationError(
            f"connection {self.conn_id!r}, field {name}: expected {expected}, found {found}; "
            "correct it under Admin > Connections"
        )


def read_connection(conn_id: str, conn_type: str) -> ConnectionFields:
    """Read a connection of one type and mask its password.

    Args:
        conn_id: Airflow's connection id.
        conn_type: The expected type, such as `oci_registry`.

    Raises:
        ConnectionMissing: No connection has this id. Not retryable.
        ConfigurationError: It has another type, or its extra is not a JSON object. Not retryable.
        AirflowUnreachable: Airflow did not say whether it exists. Retryable.
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
        extra = None  # The text is not repeated, because it may contain a credential.
    if not isinstance(extra, dict):
        raise ConfigurationError(
            f"connection {conn_id!r}, extra: expected a JSON object, found something else; "
            "correct it under Admin > Connections"
        )
    return extra
