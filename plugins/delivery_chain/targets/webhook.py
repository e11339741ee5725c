"""Deliver to a webhook: read its address and signing secret, send, and classify the response."""

from __future__ import annotations

import base64
import binascii
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar, Self
from urllib.parse import urlsplit, urlunsplit

from delivery_chain.core.results import Attempt, AttemptOutcome
from delivery_chain.core.spec.connections import TRIGGER
from delivery_chain.targets.interface import Settled

if TYPE_CHECKING:
    from collections.abc import Sequence
    from urllib.parse import SplitResult

    from delivery_chain.core.connection_fields import ConnectionFields
    from delivery_chain.targets.interface import Probe, Target
    from delivery_chain.targets.order import Order

DEFAULT_TIMEOUT = 10
"""Seconds that a target may take to respond."""
LONGEST_TIMEOUT = 300
SHORTEST_SECRET = 24
"""Minimum length of a signing secret in bytes. Source: Standard Webhooks specification, "Symmetric"."""
TOO_MANY = 429
SERVER_ERROR = 500
DELIVERED = range(200, 300)
REDIRECTS = range(300, 400)
PORTS = {"http": 80, "https": 443}
_PREFIX = "whsec_"
_URL = re.compile(r"[!-~]{1,4096}")
_QUERY = re.compile(r"[!-~]{1,4096}")


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """An address that accepts deliveries, and the signing secret. Never logged; only `shown_url` is displayed."""

    connection_type: ClassVar[str] = TRIGGER

    url: str = field(repr=False)
    """URL with the secret part of its query."""
    shown_url: str
    """URL without the values of its query."""
    secret: str = field(repr=False)
    """`whsec_…`; empty for unsigned deliveries."""
    ca_certificate: str = field(repr=False)
    """PEM text; empty to trust the system's CAs."""
    timeout: float
    """Seconds."""

    @classmethod
    def of(cls, fields: ConnectionFields) -> Self:
        """Return the target that a connection of type `delivery_webhook` describes, and mask its secrets in logs.

        Raises:
            ConfigurationError: A field is wrong. Not retryable.
        """
        parts = _parts(fields)
        query = _secret_query(fields)
        url = urlunsplit(parts._replace(query="&".join(text for text in (parts.query, query) if text)))
        return cls(
            url=url,
            shown_url=urlunsplit(parts._replace(query=_without_values(parts.query))),
            secret=_secret(fields),
            ca_certificate=fields.certificate(),
            timeout=float(fields.whole("timeout_seconds", DEFAULT_TIMEOUT, 1, LONGEST_TIMEOUT)),
        )

    def probe(self) -> Probe:
        """Connect, and do TLS if the URL is https; sends no request, which could start a redeploy."""
        from delivery_chain.targets.webhook_probe import probe  # noqa: PLC0415

        return probe(self)

    def deliver(self, order: Order, earlier: Sequence[Attempt]) -> Attempt:
        """Send once; does not follow redirects, which would leak the secret to another host."""
        # Imported late: reading the connection does not need `requests`.
        from delivery_chain.targets.webhook_request import NO_ANSWER, exchange  # noqa: PLC0415

        del earlier
        now = datetime.now(UTC)
        began = time.monotonic()
        status, answer, after = exchange(self, order, now, until=began + self.timeout)
        outcome = AttemptOutcome.LATER if status == NO_ANSWER else _outcome(status)
        return Attempt(
            at=now,
            tag=order.tag,
            seconds=round(time.monotonic() - began, 3),
            status=status,
            answer=answer,
            outcome=outcome,
            after=after if outcome is AttemptOutcome.LATER else None,
            advice=_advice(status) if outcome is AttemptOutcome.REFUSED else None,
        )

    def settled(self, order: Order) -> Settled:
        """Return success at once: what the receiver does with a delivery is its own concern."""
        return Settled(good=True, sentence=f"{self.shown_url} accepted {order.tag}")


def _outcome(status: int) -> AttemptOutcome:
    if status in DELIVERED:
        return AttemptOutcome.DONE
    if status == TOO_MANY or status >= SERVER_ERROR:
        return AttemptOutcome.LATER
    return AttemptOutcome.REFUSED


def _advice(status: int) -> str:
    if status in REDIRECTS:
        return "redirects are not followed: enter the final address in the connection"
    return "check the connection's address and secret"


def _parts(fields: ConnectionFields) -> SplitResult:
    try:
        parts = urlsplit(fields.host) if _URL.fullmatch(fields.host) else None
        port = parts.port if parts else None
    except ValueError:
        parts = port = None
    if parts is None or parts.scheme not in PORTS or not parts.hostname or port == 0:
        raise fields.wrong("host", "a URL that begins with https:// or http://", "other text")
    if "@" in parts.netloc or parts.fragment:
        raise fields.wrong("host", "a URL without user name, password and fragment", "a URL with one of them")
    return _with_port(fields, parts)


def _with_port(fields: ConnectionFields, parts: SplitResult) -> SplitResult:
    """Return the URL with the connection's port; both may give one, but they must not differ."""
    usual = PORTS[parts.scheme]
    if not fields.port or fields.port == (parts.port or usual):
        return parts
    if parts.port:
        raise fields.wrong("port", f"{parts.port}, as the URL says, or nothing", str(fields.port))
    return parts._replace(netloc=f"{parts.netloc.rstrip(':')}:{fields.port}")


def _secret_query(fields: ConnectionFields) -> str:
    query = fields.secret("secret_query").strip().lstrip("?&")
    fields.mask(query)
    for pair in query.split("&"):
        fields.mask(pair.partition("=")[2])
    if query and (not _QUERY.fullmatch(query) or "#" in query):
        raise fields.wrong("secret_query", "name=value pairs joined with &, without spaces", "other text")
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
            "other text",
        )
    return secret


def _without_values(query: str) -> str:
    return "&".join(
        f"{pair.partition('=')[0]}=***" if "=" in pair else "***" for pair in query.split("&") if pair
    )


if TYPE_CHECKING:
    _held_to_the_port: type[Target] = WebhookTarget
