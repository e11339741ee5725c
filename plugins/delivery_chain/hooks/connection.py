"""One Airflow connection, read once into a frozen value; its secrets are masked in logs from then on."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import mask_secret

from delivery_chain.core.connections import COMMANDS, connect_command
from delivery_chain.errors import AirflowUnreachable, ConfigurationError, ConnectionMissing

LONGEST_EXTRA = 256 * 1024
"""Characters of a connection's extra: room for CA bundles and keys."""
_CERTIFICATE = "-----BEGIN CERTIFICATE-----"
_NO_DAG = "delivery-chain"
"""Its runs are counted; there are none."""
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
        AirflowUnreachable: Airflow does not answer. Retryable.
    """
    try:
        connection = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        connection = _asked_again(conn_id, conn_type)
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


def _asked_again(conn_id: str, conn_type: str) -> Any:
    """The connection after all: Airflow says that one is not defined also while its database does not answer."""
    if not _airflow_answers():
        raise AirflowUnreachable(
            f"connection {conn_id!r} can't be read: Airflow's API server or its database does not answer",
            tool="airflow",
        )
    try:
        return BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        command = f", or with `{connect_command(conn_type, conn_id)}`" if conn_type in COMMANDS else ""
        raise ConnectionMissing(
            f"connection {conn_id!r} is missing: add it under Admin > Connections with type {conn_type}{command}"
        ) from None


def _airflow_answers() -> bool:
    """Whether what a task or trigger asks of Airflow's database is answered; yes for processes that can't ask so."""
    from airflow.sdk.execution_time import task_runner  # noqa: PLC0415 - not for a Dag parse
    from airflow.sdk.execution_time.comms import GetDRCount  # noqa: PLC0415

    supervisor = getattr(task_runner, "SUPERVISOR_COMMS", None)
    if supervisor is None:
        return True
    try:
        # Anything that is answered from the database alone: a connection or Variable would be "not there" again.
        answer = supervisor.send(GetDRCount(dag_id=_NO_DAG))
    except Exception:  # noqa: BLE001 - whatever it is, it is no answer
        return False
    return hasattr(answer, "count")


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
