"""One delivery to a target: a real server on this machine, with a short timeout."""

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

from delivery_chain.errors import DeliveryChainError, DeliveryFailed, DeliveryUnavailable
from delivery_chain.hooks.webhook import WebhookTarget
from delivery_chain.operators.distribute import ANSWER_BYTES, Delivery, _check, headers_for, send
from support.webhook_target import OK, Target, answer, drip, hang, webhook_target

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "whsec_" + base64.b64encode(b"k" * 24).decode()
NOW = datetime(2026, 5, 20, 12, 0, tzinfo=UTC)
DELIVERY = Delivery("dlv_1", "v1.2", "POST", '{"tag":"v1.2","who":"Zoë"}'.encode())
GET = Delivery("dlv_1", "v1.2", "GET", DELIVERY.body)
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


def outcome(where: WebhookTarget, delivery: Delivery = DELIVERY) -> tuple[Any, ...]:
    """What a task sees: the error's class, whether it is tried again and when, and the message."""
    attempt, wait = send(where, delivery)
    try:
        _check("prod", where.shown_url, attempt, wait)
    except DeliveryChainError as error:
        return type(error), error.retryable, error.retry_after, attempt.status, str(error)
    return None, None, None, attempt.status, attempt.answer


@pytest.mark.parametrize(
    ("reply", "error", "wait", "status", "message"),
    [
        (OK, None, None, 200, "ok"),
        (answer(202, b"queued"), None, None, 202, "queued"),
        (answer(204), None, None, 204, ""),
        (answer(299), None, None, 299, ""),
        (
            answer(301, Location="http://127.0.0.2:9/x"),
            DeliveryFailed,
            None,
            301,
            "redirects are not followed",
        ),
        (answer(307, Location="/elsewhere"), DeliveryFailed, None, 307, "put the final address"),
        (answer(400, b"bad body"), DeliveryFailed, None, 400, "bad body"),
        (answer(401), DeliveryFailed, None, 401, "look at the connection's address and secret"),
        (answer(404), DeliveryFailed, None, 404, "look at the connection's address and secret"),
        (answer(410), DeliveryFailed, None, 410, "look at the connection's address and secret"),
        (answer(429), DeliveryUnavailable, None, 429, "429 in "),
        (answer(429, Retry_After="7"), DeliveryUnavailable, 7.0, 429, "429 in "),
        (answer(429, Retry_After="0"), DeliveryUnavailable, 0.0, 429, "429 in "),
        (answer(429, Retry_After="9" * 400), DeliveryUnavailable, 3600.0, 429, "429 in "),
        (answer(429, Retry_After="-5"), DeliveryUnavailable, None, 429, "429 in "),
        (answer(429, Retry_After="\u00b2"), DeliveryUnavailable, None, 429, "429 in "),
        (answer(429, Retry_After="Wed, 20 May 2026 12:00:00 GMT"), DeliveryUnavailable, None, 429, "429 in "),
        (answer(500, b"oops"), DeliveryUnavailable, None, 500, "oops"),
        (answer(503, Retry_After="3"), DeliveryUnavailable, 3.0, 503, "503 in "),
        (answer(599), DeliveryUnavailable, None, 599, "599 in "),
        (hang, DeliveryUnavailable, None, 0, "no answer within 0.5 s"),
        (b"", DeliveryUnavailable, None, 0, "no connection: ConnectionError"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", DeliveryUnavailable, None, 0, "no connection: ConnectionError"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", None, None, 200, ""),
    ],
)
def test_what_a_target_says_decides(
    target: Target,
    reply: Any,
    error: type[DeliveryFailed] | None,
    wait: float | None,
    status: int,
    message: str,
) -> None:
    """Delivered, refused for good, or to be tried again after the time that the target asks for."""
    target.replies = [reply]
    found = outcome(to(target.url))
    assert found[:4] == (error, error and error.retryable, wait, status)
    assert message in found[4]
    assert len(target.got) == 1


def test_a_target_that_is_not_there_is_tried_again() -> None:
    """A refused connection is no refused delivery."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    found = outcome(to(f"http://127.0.0.1:{port}/hook"))
    assert found[:4] == (DeliveryUnavailable, True, None, 0)
    assert "no connection: ConnectionError" in found[4]


def test_a_redirect_takes_nothing_to_another_host(target: Target) -> None:
    """The secret address and the signature stay with the host of the connection."""
    with webhook_target() as other:
        target.replies = [answer(307, Location=other.url)]
        outcome(to(target.url, secret=SECRET, query="token=hunter2"))
        assert other.got == []


def test_a_request_carries_the_delivery(target: Target) -> None:
    """Body, id, time and signature arrive as they were made."""
    attempt, _ = send(to(target.url, secret=SECRET, query="token=hunter2"), DELIVERY)
    (got,) = target.got
    assert (got.method, got.path, got.body) == ("POST", "/hook?token=hunter2", DELIVERY.body)
    assert (got.headers["webhook-id"], got.headers["content-type"]) == ("dlv_1", "application/json")
    assert got.headers["webhook-timestamp"] == str(int(attempt.at.timestamp()))
    assert Webhook(SECRET).verify(got.body, got.headers) == json.loads(DELIVERY.body)


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
    """Nobody can use it with another id, time or body."""
    send(to(target.url, secret=SECRET), DELIVERY)
    headers = target.got[0].headers
    for body, said in ((DELIVERY.body, headers | change), (b'{"tag":"v9"}', headers)):
        with pytest.raises(WebhookVerificationError):
            Webhook(SECRET).verify(body, said)


def test_without_a_secret_nothing_is_signed() -> None:
    """There is no header that looks like a signature; the id is there all the same."""
    assert headers_for(to("http://x/"), DELIVERY, NOW) == {
        "User-Agent": "airflow-delivery-chain",
        "webhook-id": "dlv_1",
        "webhook-timestamp": "1779278400",
        "Content-Type": "application/json",
    }


def test_an_attempt_is_a_fact(target: Target) -> None:
    """Time, tag, status and the answer's first bytes are kept."""
    target.replies = [answer(500, b"x" * 5000)]
    began = datetime.now(UTC)
    attempt, _ = send(to(target.url), DELIVERY)
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
    attempt, wait = send(where, DELIVERY)
    with pytest.raises(DeliveryFailed) as caught:
        _check("prod", where.shown_url, attempt, wait)
    shown = f"{attempt.answer} {caught.value}"
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
    attempt, _ = send(to(target.url), DELIVERY)
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
    """Whatever bytes come, they are a status and a text, or a reason why there is none."""
    target.replies = [head + rest]
    attempt, _ = send(to(target.url), DELIVERY)
    assert len(attempt.answer) <= ANSWER_BYTES
