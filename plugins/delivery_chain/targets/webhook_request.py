"""One delivery over HTTP: a body that is ACR's, headers after the Standard Webhooks specification, a bounded answer."""

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
"""Of a target's answer that is read and kept."""
LONGEST_WAIT = 3600.0
"""Seconds: the bound for what a target may ask to wait."""
SHORTEST_HIDDEN = 4
"""Characters of a value that is taken out of an answer; shorter ones are no secrets."""
NO_ANSWER = 0
"""In the place of a status."""


def body_of(order: Order) -> bytes:
    """The bytes that are sent and signed; none for a method without a body."""
    if order.trigger.method != "POST":
        return b""
    return json.dumps(delivery_body(order), ensure_ascii=False, separators=(",", ":")).encode()


def headers_for(target: WebhookTarget, order: Order, now: datetime) -> dict[str, str]:
    """Headers of one delivery; signed where the connection has a secret.

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
    """Send one order and read the beginning of the answer.

    Args:
        target: Where to.
        order: What.
        now: The time that is signed.
        until: Point on the clock of `time.monotonic()`, seconds: nothing is read beyond it.

    Returns:
        HTTP status or `NO_ANSWER`; the first bytes of the answer without secrets, or why there is none; the seconds
        that the target asked to wait.
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
    """At most `most` bytes of an answer, and not longer than `until`: a target may drip for ever."""
    got = b""
    # `read1` gives what has come; `iter_content` would wait for a whole chunk, a timeout for each byte of it.
    while len(got) < most and time.monotonic() < until:
        chunk = response.raw.read1(most, decode_content=True)
        if not chunk:
            break
        got += chunk
    return got[:most].decode("utf-8", "replace")


def _without_secrets(answer: str, target: WebhookTarget) -> str:
    """The answer without the values of the URL's query: many a server's error page repeats the address."""
    pairs = urlsplit(target.url).query.split("&")
    values = [pair.partition("=")[2] or pair for pair in pairs]
    hidden = {*values, *map(unquote_plus, values), target.secret, target.secret.removeprefix("whsec_")}
    for value in sorted(hidden, key=len, reverse=True):
        if len(value) >= SHORTEST_HIDDEN:
            answer = answer.replace(value, "***")
    return answer


def verified_session(target: WebhookTarget) -> requests.Session:
    """A session that trusts the connection's own CA, where it has one."""
    session = requests.Session()
    # The proxies of the environment, but no credentials from ~/.netrc: those are the connection's alone.
    session.trust_env = True
    session.auth = lambda request: request
    if target.ca_certificate:
        tls = ssl.create_default_context(cadata=target.ca_certificate)

        class OwnCa(HTTPAdapter):
            def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
                super().init_poolmanager(*args, ssl_context=tls, **kwargs)

        session.mount("https://", OwnCa())
    return session
