"""One Airflow connection, read once into a frozen value; its secrets are masked in logs from then on."""

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
"""Characters of a connection's extra: room for CA bundles and keys."""
_CERTIFICATE = "-----BEGIN CERTIFICATE-----"
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0", ""})


@dataclass(frozen=True, slots=True)
class ConnectionFields:
    """What a connection says. Never logged."""

    conn_id: str
    conn_type: str
    host: str
    login: str
    password: str = field(repr=False)
    port: int | None
    extra: dict[str, Any] = field(repr=False)

    def text(self, name: str) -> str:
        """A text of the extra; empty where it is not there."""
        value = self.extra.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.wrong(name, "a text", type(value).__name__)
        return value

    def secret(self, name: str) -> str:
        """A text of the extra that must not be shown: masked before it is returned."""
        value = self.text(name)
        mask(value)
        return value

    def flag(self, name: str) -> bool:
        """A yes or no of the extra; no where it is not there."""
        value = self.extra.get(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        text = str(value).strip().lower()
        if text not in _TRUE | _FALSE:
            raise self.wrong(name, "true or false", repr(text[:40]))
        return text in _TRUE

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number of the extra."""
        value = self.extra.get(name)
        text = str(default) if value is None or value == "" else str(value).strip()
        if not (text.isascii() and text.isdecimal() and least <= int(text[:20]) <= most):
            raise self.wrong(name, f"a whole number from {least} to {most}", repr(text[:40]))
        return int(text)

    def certificate(self) -> str:
        """The field `ca_certificate`: PEM text, or empty for the CAs that the system trusts."""
        text = self.text("ca_certificate").strip()
        if text and not text.startswith(_CERTIFICATE):
            raise self.wrong("ca_certificate", f"PEM text that begins with {_CERTIFICATE}", "another text")
        return f"{text}\n" if text else ""

    def wrong(self, name: str, expected: str, found: str) -> ConfigurationError:
        """The error for one field; `found` must hold no secret."""
        return ConfigurationError(
            f"connection {self.conn_id!r}, field {name}: expected {expected}, found {found}; "
            "correct it under Admin > Connections"
        )


def read_connection(conn_id: str, conn_type: str) -> ConnectionFields:
    """Read a connection of one type and mask its password.

    Args:
        conn_id: Airflow's connection id.
        conn_type: The type that it has to have, such as `oci_registry`.

    Raises:
        ConnectionMissing: There is none of this name. Not retryable.
        ConfigurationError: Of another type, or its extra is no JSON object. Not retryable.
        AirflowUnreachable: Airflow did not say whether it is there. Retryable.
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
    """Have Airflow show `***` for a secret, in this process's logs and its supervisor's."""
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
        extra = None  # The text is not repeated: it may hold a credential.
    if not isinstance(extra, dict):
        raise ConfigurationError(
            f"connection {conn_id!r}, extra: expected a JSON object, found something else; "
            "correct it under Admin > Connections"
        )
    return extra
