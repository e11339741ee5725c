"""Send one delivery over HTTP: ACR's body, headers of the Standard Webhooks specification, a bounded response."""

from __future__ import annotations

import json
import ssl
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus, urlsplit

import requests
from requests.adapters import HTTPAdapter
from standardwebhooks import Webhook
from urllib3.exceptions import HTTPError

from delivery_chain.targets.acr_body import delivery_body

if TYPE_CHECKING:
    from datetime import datetime

    from delivery_chain.targets.order import Order
    from delivery_chain.targets.webhook import WebhookTarget

ANSWER_BYTES = 512
"""Maximum number of bytes of a target's response to read and keep."""
LONGEST_WAIT = 3600.0
"""Longest wait that a target may ask for, in seconds."""
SHORTEST_HIDDEN = 4
"""Minimum length, in characters, of a value that is masked in a response; shorter values are not secrets."""
NO_ANSWER = 0
"""Used in place of a status if the target did not respond."""


def body_of(order: Order) -> bytes:
    """Return the bytes that are sent and signed; empty for a method without a body."""
    if order.trigger.method != "POST":
        return b""
    return json.dumps(delivery_body(order), ensure_ascii=False, separators=(",", ":")).encode()


def headers_for(target: WebhookTarget, order: Order, now: datetime) -> dict[str, str]:
    """Return the headers of one delivery; signed if the connection has a secret.

    Source: Standard Webhooks specification, "Webhook headers (sending metadata to consumers)".
    """
    headers = {
        "User-Agent": "airflow-delivery-chain",
        "webhook-id": order.id,
        "webhook-timestamp": str(int(now.timestamp())),
    }
    body = body_of(order)
    if body:
        headers["Content-Type"] = "application/json"
    if target.secret:
        headers["webhook-signature"] = Webhook(target.secret).sign(order.id, now, body.decode())
    return headers


def exchange(
    target: WebhookTarget, order: Order, now: datetime, *, until: float
) -> tuple[int, str, float | None]:
    """Send one order and read the beginning of the response.

    Args:
        target: The receiver.
        order: The order to send.
        now: The time to sign.
        until: Deadline for reading, in seconds of `time.monotonic()`.

    Returns:
        The HTTP status, or `NO_ANSWER`; the first bytes of the response without secrets, or the reason why it is
        missing; the seconds that the target asked to wait.
    """
    status, answer, after = NO_ANSWER, "", None
    try:
        with (
            verified_session(target) as session,
            session.request(
                order.trigger.method,
                target.url,
                data=body_of(order) or None,
                headers=headers_for(target, order, now),
                timeout=target.timeout,
                allow_redirects=False,
                stream=True,
            ) as response,
        ):
            status = response.status_code
            answer = _first_bytes(response, until, ANSWER_BYTES + len(target.url))
            after = _asked_to_wait(response.headers.get("Retry-After", ""))
    except requests.Timeout:
        answer = f"no answer within {target.timeout:g} s"
    except requests.RequestException as error:
        answer = f"no connection: {type(error).__name__}"
    except HTTPError as error:
        answer = f"the answer broke off: {type(error).__name__}"
    return status, _without_secrets(answer, target)[:ANSWER_BYTES], after


def _asked_to_wait(retry_after: str) -> float | None:
    whole = retry_after.isascii() and retry_after.isdecimal()
    return min(float(retry_after), LONGEST_WAIT) if whole else None


def _first_bytes(response: requests.Response, until: float, most: int) -> str:
    """Read at most `most` bytes of a response, until `until`: a target may trickle bytes forever."""
    got = b""
    # `read1` returns what has arrived; `iter_content` would wait for a whole chunk, up to a timeout per byte.
    while len(got) < most and time.monotonic() < until:
        chunk = response.raw.read1(most, decode_content=True)
        if not chunk:
            break
        got += chunk
    return got[:most].decode("utf-8", "replace")


def _without_secrets(answer: str, target: WebhookTarget) -> str:
    """Return the response without the values of the URL's query: error pages often repeat the address."""
    pairs = urlsplit(target.url).query.split("&")
    values = [pair.partition("=")[2] or pair for pair in pairs]
    hidden = {*values, *map(unquote_plus, values), target.secret, target.secret.removeprefix("whsec_")}
    for value in sorted(hidden, key=len, reverse=True):
        if len(value) >= SHORTEST_HIDDEN:
            answer = answer.replace(value, "***")
    return answer


def verified_session(target: WebhookTarget) -> requests.Session:
    """Return a session that trusts the connection's own CA, if it has one."""
    session = requests.Session()
    # Use the proxies of the environment, but no credentials from ~/.netrc: only the connection has those.
    session.trust_env = True
    session.auth = lambda request: request
    if target.ca_certificate:
        tls = ssl.create_default_context(cadata=target.ca_certificate)

        class OwnCa(HTTPAdapter):
            def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
                super().init_poolmanager(*args, ssl_context=tls, **kwargs)

        session.mount("https://", OwnCa())
    return session
