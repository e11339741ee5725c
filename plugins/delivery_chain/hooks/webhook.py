"""Reads a connection of type `delivery_webhook` as a target of deliveries."""

from __future__ import annotations

import socket
import ssl
from typing import ClassVar
from urllib.parse import urlsplit

from airflow.sdk import BaseHook

from delivery_chain.errors import ConfigurationError
from delivery_chain.hooks.connection import read_connection
from delivery_chain.targets.webhook import PORTS, WebhookTarget


class WebhookHook(BaseHook):
    """Airflow connection to one target of deliveries."""

    conn_name_attr: ClassVar[str] = "conn_id"
    default_conn_name: ClassVar[str] = "delivery_webhook_default"
    conn_type: ClassVar[str] = WebhookTarget.connection_type
    hook_name: ClassVar[str] = "Delivery webhook"

    def __init__(self, conn_id: str = default_conn_name) -> None:
        """Create the hook; reads nothing yet.

        Args:
            conn_id: Airflow's connection id.
        """
        super().__init__()
        self.conn_id = conn_id

    def target(self) -> WebhookTarget:
        """Return the target, its secrets masked in logs.

        Raises:
            ConfigurationError: The connection is missing or wrong. Not retryable.
        """
        return WebhookTarget.of(read_connection(self.conn_id, self.conn_type))

    def test_connection(self) -> tuple[bool, str]:
        """Connect, with a TLS handshake for https. No request is sent, since it could start a redeploy."""
        try:
            return try_target(self.target())
        except ConfigurationError as error:
            # Airflow tests a copy of the connection under a random name, which means nothing to the user.
            return False, str(error).replace(f"connection {self.conn_id!r}", "this connection")


def try_target(target: WebhookTarget) -> tuple[bool, str]:
    """Connect, with a TLS handshake for https, but send no request.

    Returns:
        Whether that worked, and a sentence about the result.
    """
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


def _connect(target: WebhookTarget) -> None:
    parts = urlsplit(target.url)
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    with socket.create_connection((host, port), timeout=target.timeout) as plain:
        if parts.scheme == "https":
            context = ssl.create_default_context(cadata=target.ca_certificate or None)
            with context.wrap_socket(plain, server_hostname=host):
                pass
