"""Probe a webhook: connect, and do TLS, without a request."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from delivery_chain.targets.interface import Probe
from delivery_chain.targets.webhook import PORTS

if TYPE_CHECKING:
    from delivery_chain.targets.webhook import WebhookTarget


def probe(target: WebhookTarget) -> Probe:
    """Connect, and do TLS if the URL is https. Nothing is sent: a request could start a redeploy."""
    try:
        _connect(target)
    except ssl.SSLError as error:
        return Probe(good=False, sentence=f"{target.shown_url}: TLS failed: {error.reason or error}")
    except OSError as error:
        return Probe(good=False, sentence=f"{target.shown_url}: no connection: {error.strerror or error}")
    signed = "deliveries will be signed" if target.secret else "deliveries will NOT be signed (no secret)"
    return Probe(
        good=True,
        sentence=f"{target.shown_url} takes connections; no request was sent, it could start a redeploy; {signed}",
    )


def _connect(target: WebhookTarget) -> None:
    parts = urlsplit(target.url)
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    with socket.create_connection((host, port), timeout=target.timeout) as plain:
        if parts.scheme == "https":
            context = ssl.create_default_context(cadata=target.ca_certificate or None)
            with context.wrap_socket(plain, server_hostname=host):
                pass
