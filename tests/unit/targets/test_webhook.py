"""One delivery to a webhook: a real server on this machine, with a short timeout."""

from __future__ import annotations

import base64
import json
import socket
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from delivery_chain.core.results import Attempt, AttemptOutcome
from delivery_chain.targets.acr_body import delivery_body
from delivery_chain.targets.webhook import WebhookTarget
from delivery_chain.targets.webhook_request import ANSWER_BYTES, headers_for
from support.orders import order
from support.webhook_target import OK, Target, answer, drip, hang, webhook_target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from delivery_chain.targets.order import Order

SECRET = "whsec_" + base64.b64encode(b"k" * 24).decode()
NOW = datetime(2026, 5, 20, 12, 0, tzinfo=UTC)
ORDER = order()
BODY = json.dumps(delivery_body(ORDER), ensure_ascii=False, separators=(",", ":")).encode()
GET = order(method="GET")
DONE, REFUSED, LATER = AttemptOutcome.DONE, AttemptOutcome.REFUSED, AttemptOutcome.LATER
TIMEOUT = 0.5


@pytest.fixture
def target() -> Iterator[Target]:
    with webhook_target() as running:
        yield running


def to(url: str, *, secret: str = "", query: str = "") -> WebhookTarget:
    return WebhookTarget(
        url=f"{url}?{query}" if query else url,
        shown_url=url,
        secret=secret,
        ca_certificate="",
        timeout=TIMEOUT,
    )


def send(where: WebhookTarget, what: Order = ORDER) -> Attempt:
    return where.deliver(what, ())


@pytest.mark.parametrize(
    ("reply", "outcome", "after", "status", "message"),
    [
        (OK, DONE, None, 200, "ok"),
        (answer(202, b"queued"), DONE, None, 202, "queued"),
        (answer(204), DONE, None, 204, ""),
        (answer(299), DONE, None, 299, ""),
        (
            answer(301, Location="http://127.0.0.2:9/x"),
            REFUSED,
            None,
            301,
            "redirects are not followed",
        ),
        (answer(307, Location="/elsewhere"), REFUSED, None, 307, "enter the final address"),
        (answer(400, b"bad body"), REFUSED, None, 400, "bad body"),
        (answer(401), REFUSED, None, 401, "check the connection's address and secret"),
        (answer(404), REFUSED, None, 404, "check the connection's address and secret"),
        (answer(410), REFUSED, None, 410, "check the connection's address and secret"),
        (answer(429), LATER, None, 429, ""),
        (answer(429, Retry_After="7"), LATER, 7.0, 429, ""),
        (answer(429, Retry_After="0"), LATER, 0.0, 429, ""),
        (answer(429, Retry_After="9" * 400), LATER, 3600.0, 429, ""),
        (answer(429, Retry_After="-5"), LATER, None, 429, ""),
        (answer(429, Retry_After="\u00b2"), LATER, None, 429, ""),
        (answer(429, Retry_After="Wed, 20 May 2026 12:00:00 GMT"), LATER, None, 429, ""),
        (answer(500, b"oops"), LATER, None, 500, "oops"),
        (answer(503, Retry_After="3"), LATER, 3.0, 503, ""),
        (answer(599), LATER, None, 599, ""),
        (hang, LATER, None, 0, "no answer within 0.5 s"),
        (b"", LATER, None, 0, "no connection: ConnectionError"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", LATER, None, 0, "no connection: ConnectionError"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", DONE, None, 200, ""),
    ],
)
def test_what_a_target_says_decides(
    target: Target,
    reply: Any,
    outcome: AttemptOutcome,
    after: float | None,
    status: int,
    message: str,
) -> None:
    """Delivered, refused for good, or to be tried again after the time that the target asks for."""
    target.replies = [reply]
    found = send(to(target.url))
    assert (found.outcome, found.after, found.status) == (outcome, after, status)
    assert message in f"{found.answer} {found.advice}"
    assert len(target.got) == 1


def test_a_target_that_is_not_there_is_tried_again() -> None:
    """A refused connection is no refused delivery."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    found = send(to(f"http://127.0.0.1:{port}/hook"))
    assert (found.outcome, found.after, found.status) == (LATER, None, 0)
    assert found.answer == "no connection: ConnectionError"


def test_a_redirect_takes_nothing_to_another_host(target: Target) -> None:
    """The secret address and the signature stay with the host of the connection."""
    with webhook_target() as other:
        target.replies = [answer(307, Location=other.url)]
        send(to(target.url, secret=SECRET, query="token=hunter2"))
        assert other.got == []


def test_a_request_carries_the_delivery(target: Target) -> None:
    """Body, id, time and signature arrive as they were made."""
    attempt = send(to(target.url, secret=SECRET, query="token=hunter2"))
    (got,) = target.got
    assert (got.method, got.path, got.body) == ("POST", "/hook?token=hunter2", BODY)
    assert (got.headers["webhook-id"], got.headers["content-type"]) == ("dlv_1", "application/json")
    assert got.headers["webhook-timestamp"] == str(int(attempt.at.timestamp()))
    assert Webhook(SECRET).verify(got.body, got.headers) == delivery_body(ORDER)


def test_a_get_has_no_body(target: Target) -> None:
    """Redeploy addresses that want GET see no body and no content type; the signature is over nothing."""
    send(to(target.url, secret=SECRET), GET)
    (got,) = target.got
    assert (got.method, got.body, "content-type" in got.headers) == ("GET", b"", False)
    signed = Webhook(SECRET).sign(
        "dlv_1", datetime.fromtimestamp(int(got.headers["webhook-timestamp"]), UTC), ""
    )
    assert got.headers["webhook-signature"] == signed


@pytest.mark.parametrize(
    "change", [{"webhook-id": "dlv_2"}, {"webhook-timestamp": str(int(NOW.timestamp()))}]
)
def test_a_signature_is_for_one_delivery(target: Target, change: dict[str, str]) -> None:
    """The signature is not valid with another id, time or body."""
    send(to(target.url, secret=SECRET))
    headers = target.got[0].headers
    for body, said in ((BODY, headers | change), (b'{"tag":"v9"}', headers)):
        with pytest.raises(WebhookVerificationError):
            Webhook(SECRET).verify(body, said)


def test_without_a_secret_nothing_is_signed() -> None:
    """No header looks like a signature; the id is sent all the same."""
    assert headers_for(to("http://x/"), ORDER, NOW) == {
        "User-Agent": "airflow-delivery-chain",
        "webhook-id": "dlv_1",
        "webhook-timestamp": "1779278400",
        "Content-Type": "application/json",
    }


def test_an_attempt_is_a_fact(target: Target) -> None:
    """Time, tag, status and the answer's first bytes are kept."""
    target.replies = [answer(500, b"x" * 5000)]
    began = datetime.now(UTC)
    attempt = send(to(target.url))
    assert began <= attempt.at <= datetime.now(UTC)
    assert 0 <= attempt.seconds < TIMEOUT
    assert (attempt.tag, attempt.status, attempt.answer) == ("v1.2", 500, "x" * ANSWER_BYTES)


@pytest.mark.parametrize(
    "body",
    [
        "Cannot POST /hook?token=hunter2-token",
        "no token hunter2 token for you",
        "x" * 505 + "hunter2-token",
        "your secret is " + SECRET,
        "your secret is " + SECRET.removeprefix("whsec_"),
    ],
)
def test_an_answer_that_repeats_a_secret_is_not_kept(target: Target, body: str) -> None:
    """Error pages show the address that was asked for: what is kept, logged and raised does not."""
    target.replies = [answer(404, body.encode())]
    where = to(target.url, secret=SECRET, query="token=hunter2-token&again=hunter2%20token")
    attempt = send(where)
    shown = f"{attempt!r} {attempt}"
    assert [part for part in ("hunter2", SECRET[6:]) if part in shown] == []
    assert "***" in attempt.answer


@pytest.mark.parametrize(
    "reply",
    [
        drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"."),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n.\r\n"),
        drip(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08\0\0\0\0\0\0\3", b"\0"),
    ],
)
def test_a_target_that_drips_is_left(target: Target, reply: Any) -> None:
    """The status is there: an answer that never ends keeps no worker."""
    target.replies = [reply]
    began = time.monotonic()
    attempt = send(to(target.url))
    assert (attempt.status, time.monotonic() - began < 4 * TIMEOUT) == (200, True)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    head=st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 503 \r\nRetry-After: "]),
    rest=st.binary(max_size=200),
)
@example(head=b"HTTP/1.1 503 \r\nRetry-After: ", rest="²\r\n\r\n".encode("latin-1"))
@example(head=b"HTTP/1.1 200 OK\r\n", rest=b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc")
@example(head=b"HTTP/1.1 200 OK\r\n", rest=b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")
@example(head=b"HTTP/1.1 200 OK\r\n", rest=b"Content-Length: -1\r\n\r\n")
def test_no_answer_takes_the_worker_down(target: Target, head: bytes, rest: bytes) -> None:
    """Any bytes give a status and a text, or a reason for their absence."""
    target.replies = [head + rest]
    attempt = send(to(target.url))
    assert len(attempt.answer) <= ANSWER_BYTES
