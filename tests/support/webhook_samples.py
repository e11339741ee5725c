"""Samples of webhooks, and each sender's proof, computed here without the package's code."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

import pytest

from delivery_chain.errors import WebhookRefused
from delivery_chain.senders.base import Request
from delivery_chain.senders.registries import REGISTRIES
from delivery_chain.senders.table import SENDERS

if TYPE_CHECKING:
    from delivery_chain.core.events.notification import Notification

SAMPLES = Path(__file__).parents[1] / "samples" / "webhooks"
FORGES = sorted(set(SENDERS) - set(REGISTRIES))
SECRET = "It's a Secret to Everybody"
NOW = datetime(2024, 5, 31, 16, 48, 37, tzinfo=UTC)
STAMP = str(int(NOW.timestamp()))
SIGNATURES = {
    "bitbucket": ("x-hub-signature", "sha256="),
    "bitbucket-dc": ("x-hub-signature", "sha256="),
    "forgejo": ("x-forgejo-signature", ""),
    "gitea": ("x-gitea-signature", ""),
    "github": ("x-hub-signature-256", "sha256="),
    "gogs": ("x-gogs-signature", ""),
    "pagure": ("x-pagure-signature-256", ""),
}
"""Header and prefix before the hex digits, for senders that send an HMAC of the body."""


def cases() -> list[tuple[str, str]]:
    """Each sample of the forges and of our own format, as sender and case."""
    found = [(path.parts[-3], path.parts[-2]) for path in SAMPLES.glob("*/*/body.json")]
    return sorted((sender, case) for sender, case in found if sender in FORGES)


def origin(sender: str, case: str) -> str:
    """The source of a sample."""
    folder = SAMPLES / sender / case
    told = json.loads((folder / "headers.json").read_text(encoding="utf-8"))
    return str(told["origin"]) if "origin" in told else (folder / "ORIGIN.md").read_text(encoding="utf-8")


def read(sender: str, request: Request) -> Notification:
    """The content of an authentic request."""
    return SENDERS[sender].parse(request)


def why_not(sender: str, request: Request) -> str:
    """The reason why an authentic request is refused, as status and message."""
    with pytest.raises(WebhookRefused) as caught:
        SENDERS[sender].parse(request)
    assert "\n" not in str(caught.value)
    return f"{caught.value.status} {caught.value}"


def sample(sender: str, case: str) -> Request:
    """A sample's request, without a proof by our secret."""
    folder = SAMPLES / sender / case
    told = json.loads((folder / "headers.json").read_text(encoding="utf-8"))
    headers = told["headers"] if "origin" in told else told
    return Request(
        headers={name.lower(): value for name, value in headers.items()},
        body=(folder / "body.json").read_bytes(),
    )


def edited(request: Request, **changes: Any) -> Request:
    """The request with other values at the top level of the body."""
    return replace(request, body=json.dumps(json.loads(request.body) | changes).encode())


def with_headers(request: Request, headers: dict[str, str]) -> Request:
    """The request with additional headers."""
    return replace(request, headers={**request.headers, **headers})


def as_form(request: Request) -> Request:
    """The request as a form."""
    body = b"payload=" + quote_plus(request.body).encode()
    return with_headers(replace(request, body=body), {"content-type": "application/x-www-form-urlencoded"})


def hex_of(body: bytes, secret: str = SECRET) -> str:
    """HMAC-SHA256 in hex."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def standard_of(event_id: str, body: bytes, *, key: bytes = SECRET.encode(), stamp: str = STAMP) -> str:
    """A signature by the Standard Webhooks specification."""
    digest = hmac.new(
        key, f"{event_id}.{stamp}.".encode(errors="surrogatepass") + body, hashlib.sha256
    ).digest()
    return "v1," + base64.b64encode(digest).decode()


def proof(sender: str, request: Request, secret: str = SECRET) -> dict[str, str]:
    """The headers in which a sender of this kind proves that it knows the secret."""
    if sender in SIGNATURES:
        name, prefix = SIGNATURES[sender]
        return {name: prefix + hex_of(request.body, secret)}
    match sender:
        case "gitlab":
            return {"x-gitlab-token": secret}
        case "azure":
            return {"authorization": "Basic " + base64.b64encode(f"hook:{secret}".encode()).decode()}
        case "standard":
            signature = standard_of(request.headers["webhook-id"], request.body, key=secret.encode())
            return {"webhook-timestamp": STAMP, "webhook-signature": signature}
    raise AssertionError(sender)


def proven(sender: str, request: Request, secret: str = SECRET) -> Request:
    """The request with its proof."""
    return with_headers(request, proof(sender, request, secret))
