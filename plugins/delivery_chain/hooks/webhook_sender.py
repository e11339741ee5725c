"""Reads a connection of type `webhook_sender`: a sender, its secrets, and the connections whose pushes it reports."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from airflow.sdk import BaseHook

from delivery_chain.hooks.connection import mask, read_connection

if TYPE_CHECKING:
    from delivery_chain.core.connection_fields import ConnectionFields

SHORTEST_SECRET = 16
"""Minimum length of a secret: a shorter one could be guessed at the rate at which requests are answered."""
LONGEST_SECRET = 1000
PER_MINUTE = 600
"""Default rate limit of one sender, in deliveries per minute."""
_EXPECTED = f"{SHORTEST_SECRET} to {LONGEST_SECRET} printable ASCII characters (`openssl rand -hex 32`)"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,199}")


@dataclass(frozen=True, slots=True)
class WebhookSender:
    """One sender, as described by its connection."""

    conn_id: str
    kind: str
    """A name in `delivery_chain.senders.table.SENDERS`; not checked here."""
    secrets: tuple[str, ...] = field(repr=False)
    """The valid secrets: two during a rotation, empty if none is set."""
    speaks_for: tuple[str, ...]
    """Connections, of type git or oci_registry, whose pushes it may report."""
    per_minute: int
    """Rate limit in deliveries per minute."""


class WebhookSenderHook(BaseHook):
    """Airflow's connection for one webhook sender."""

    conn_name_attr: ClassVar[str] = "conn_id"
    default_conn_name: ClassVar[str] = "webhook_sender_default"
    conn_type: ClassVar[str] = "webhook_sender"
    hook_name: ClassVar[str] = "Webhook sender"

    def __init__(self, conn_id: str = default_conn_name) -> None:
        """Create the hook; reads nothing yet.

        Args:
            conn_id: Airflow's connection id, which is also the last part of the webhook's address.
        """
        super().__init__()
        self.conn_id = conn_id

    def sender(self) -> WebhookSender:
        """Return the sender, its secrets masked in logs.

        Raises:
            ConfigurationError: The connection is missing or wrong. Not retryable.
        """
        fields = read_connection(self.conn_id, self.conn_type)
        return WebhookSender(
            conn_id=self.conn_id,
            kind=fields.text("sender").strip().lower(),
            secrets=_secrets(fields),
            speaks_for=_speaks_for(fields),
            per_minute=fields.whole("per_minute", PER_MINUTE, 1, 1_000_000),
        )


def in_environment(conn_id: str) -> bool:
    """Whether a variable of the environment defines this connection. Airflow ignores the case of its id."""
    return f"AIRFLOW_CONN_{conn_id.upper()}" in os.environ


def _secrets(fields: ConnectionFields) -> tuple[str, ...]:
    found = [fields.password, fields.secret("second_secret")]
    for name, secret in zip(("password", "second_secret"), found, strict=True):
        mask(secret)
        if secret and not SHORTEST_SECRET <= len(secret) <= LONGEST_SECRET:
            raise fields.wrong(name, _EXPECTED, str(len(secret)))
        if not (secret.isascii() and secret.isprintable()):
            # Senders differ in how they encode other characters: headers are Latin-1, URLs are percent-encoded.
            raise fields.wrong(name, _EXPECTED, "other characters")
    return tuple(dict.fromkeys(secret for secret in found if secret))


def _speaks_for(fields: ConnectionFields) -> tuple[str, ...]:
    names = fields.text("speaks_for").replace(",", " ").split()
    if not names or not all(_NAME.fullmatch(name) for name in names):
        raise fields.wrong(
            "speaks_for",
            "the ids of the git or registry connections whose pushes it reports",
            repr(names)[:100],
        )
    return tuple(dict.fromkeys(names))
