"""A connection of type `delivery_webhook` as the target of deliveries."""

from __future__ import annotations

import base64
import binascii
import re
import socket
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit, urlunsplit

from airflow.sdk import BaseHook

from delivery_chain.errors import ConfigurationError
from delivery_chain.hooks.connection import ConnectionFields, mask, read_connection

if TYPE_CHECKING:
    from urllib.parse import SplitResult

DEFAULT_TIMEOUT = 10
"""Seconds a target may take to answer."""
LONGEST_TIMEOUT = 300
SHORTEST_SECRET = 24
"""Bytes of a signing secret, at least. Source: Standard Webhooks specification, "Symmetric"."""
_PREFIX = "whsec_"
_URL = re.compile(r"[!-~]{1,4096}")
_QUERY = re.compile(r"[!-~]{1,4096}")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """Where a delivery goes and how it is signed. Never logged; `shown_url` is what people see."""

    url: str = field(repr=False)
    """With the secret part of its query."""
    shown_url: str
    """Without the values of its query."""
    secret: str = field(repr=False)
    """`whsec_…`; empty for deliveries that are not signed."""
    ca_certificate: str = field(repr=False)
    """PEM text; empty for the CAs that the system trusts."""
    timeout: float
    """Seconds."""


class WebhookHook(BaseHook):
    """Airflow's connection to one target of deliveries."""

    conn_name_attr: ClassVar[str] = "conn_id"
    default_conn_name: ClassVar[str] = "delivery_webhook_default"
    conn_type: ClassVar[str] = "delivery_webhook"
    hook_name: ClassVar[str] = "Delivery webhook"

    def __init__(self, conn_id: str = default_conn_name) -> None:
        """Read nothing yet.

        Args:
            conn_id: Airflow's connection id.
        """
        super().__init__()
        self.conn_id = conn_id

    def target(self) -> WebhookTarget:
        """The target, its secrets masked in logs.

        Raises:
            ConfigurationError: The connection is missing or wrong. Not retryable.
        """
        return target_of(read_connection(self.conn_id, self.conn_type))

    def test_connection(self) -> tuple[bool, str]:
        """Connect, and do TLS where the URL says https. Nothing is sent: a request could start a redeploy."""
        try:
            return try_target(self.target())
        except ConfigurationError as error:
            # Airflow tests a copy of the connection, under a random name that nobody has seen.
            return False, str(error).replace(f"connection {self.conn_id!r}", "this connection")


def target_of(fields: ConnectionFields) -> WebhookTarget:
    """What the fields of a connection come down to, its secrets masked in logs.

    Raises:
        ConfigurationError: One is wrong. Not retryable.
    """
    parts = _parts(fields)
    query = _secret_query(fields)
    url = urlunsplit(parts._replace(query="&".join(text for text in (parts.query, query) if text)))
    return WebhookTarget(
        url=url,
        shown_url=urlunsplit(parts._replace(query=_without_values(parts.query))),
        secret=_secret(fields),
        ca_certificate=fields.certificate(),
        timeout=float(fields.whole("timeout_seconds", DEFAULT_TIMEOUT, 1, LONGEST_TIMEOUT)),
    )


def try_target(target: WebhookTarget) -> tuple[bool, str]:
    """Connect, and do TLS where the URL says https: whether that works, and what to say of it. Nothing is sent."""
    try:
        _connect(target)
    except ssl.SSLError as error:
        return False, f"{target.shown_url}: TLS failed: {error.reason or error}"
    except OSError as error:
        return False, f"{target.shown_url}: no connection: {error.strerror or error}"
    signed = "deliveries will be signed" if target.secret else "deliveries will NOT be signed (no secret)"
    return (
        True,
        f"{target.shown_url} takes connections; no request was sent, it could start a redeploy; {signed}",
    )


def _parts(fields: ConnectionFields) -> SplitResult:
    try:
        parts = urlsplit(fields.host) if _URL.fullmatch(fields.host) else None
        port = parts.port if parts else None
    except ValueError:
        parts = port = None
    if parts is None or parts.scheme not in _PORTS or not parts.hostname or port == 0:
        raise fields.wrong("host", "a URL that begins with https:// or http://", "another text")
    if "@" in parts.netloc or parts.fragment:
        raise fields.wrong("host", "a URL without user name, password and fragment", "one of them")
    return _with_port(fields, parts)


def _with_port(fields: ConnectionFields, parts: SplitResult) -> SplitResult:
    """The URL with the connection's port, which may be in both places, but not differ."""
    usual = _PORTS[parts.scheme]
    if not fields.port or fields.port == (parts.port or usual):
        return parts
    if parts.port:
        raise fields.wrong("port", f"{parts.port}, as the URL says, or nothing", str(fields.port))
    return parts._replace(netloc=f"{parts.netloc.rstrip(':')}:{fields.port}")


def _secret_query(fields: ConnectionFields) -> str:
    query = fields.secret("secret_query").strip().lstrip("?&")
    mask(query)
    for pair in query.split("&"):
        mask(pair.partition("=")[2])
    if query and (not _QUERY.fullmatch(query) or "#" in query):
        raise fields.wrong("secret_query", "name=value pairs joined with &, without spaces", "another text")
    return query


def _secret(fields: ConnectionFields) -> str:
    secret = fields.password.strip()
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if secret and len(key) < SHORTEST_SECRET:
        raise fields.wrong(
            "password",
            f"a signing secret: {_PREFIX} and at least {SHORTEST_SECRET} bytes in base64",
            "another text",
        )
    return secret


def _without_values(query: str) -> str:
    return "&".join(
        f"{pair.partition('=')[0]}=***" if "=" in pair else "***" for pair in query.split("&") if pair
    )


def _connect(target: WebhookTarget) -> None:
    parts = urlsplit(target.url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    with socket.create_connection((host, port), timeout=target.timeout) as plain:
        if parts.scheme == "https":
            context = ssl.create_default_context(cadata=target.ca_certificate or None)
            with context.wrap_socket(plain, server_hostname=host):
                pass
