"""Reads a connection of type `delivery_webhook` as a target of deliveries."""

from __future__ import annotations

from typing import ClassVar

from airflow.sdk import BaseHook

from delivery_chain.errors import ConfigurationError
from delivery_chain.hooks.connection import read_connection
from delivery_chain.targets.webhook import WebhookTarget


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
            return self.target().probe()
        except ConfigurationError as error:
            # Airflow tests a copy of the connection under a random name, which means nothing to the user.
            return False, str(error).replace(f"connection {self.conn_id!r}", "this connection")
