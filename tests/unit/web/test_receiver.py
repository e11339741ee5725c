from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.exc import OperationalError

from delivery_chain.errors import ConfigurationError
from delivery_chain.hooks.webhook_sender import WebhookSenderHook
from delivery_chain.senders.table import SENDERS
from delivery_chain.web import IN_ADDRESS, limits, sender_cache, webhooks
from delivery_chain.web import receiver as module
from support.receiver_fakes import NO_PROOF, PUSH, SENTINEL, Fakes, lines, slow
from support.webhook_airflow import (
    MAIN,
    OTHER_SECRET,
    PREFIX,
    SECRET,
    A,
    Receiver,
    connect,
    signed,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


def test_what_is_taken_is_answered(
    receiver: Receiver, fakes: Fakes, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer has the sender's id, its word for the event, and each change with its runs; nothing is logged."""
    found = receiver.deliver(PUSH, delivery="one")
    assert (found.status, found.body) == (
        200,
        {
            "delivery": "one",
            "event": "source.push",
            "ignored": "",
            "changes": [
                {
                    "ref": MAIN,
                    "commit": A,
                    "before": "",
                    "at": "2026-05-20T00:00:00Z",
                    "by": "webhook hook",
                    "delivery_id": "",
                    "actor": "",
                    "outcomes": [{"chain": "shop", "rule": "main", "run_id": "r1", "made": True, "why": ""}],
                    "why": "",
                }
            ],
        },
    )
    assert ([one.delivery_id for one in fakes.deliveries], lines(caplog)) == (["one"], [])


def test_what_is_ignored_costs_no_database(receiver: Receiver, fakes: Fakes) -> None:
    """A ping is answered by itself."""
    found = receiver.deliver({"type": "ping"}, delivery="p")
    assert found.body == {
        "delivery": "p",
        "event": "ping",
        "ignored": "a ping: the webhook works",
        "changes": [],
    }
    assert fakes.deliveries == []


# Made when a test asks: a signature holds for five minutes, and collecting all tests takes its time.
REFUSALS: dict[str, Callable[[], tuple[dict[str, Any], tuple[str, bytes, dict[str, str]], int, str]]] = {
    "no proof": lambda: ({}, ("hook", SENTINEL.encode(), {}), 401, ""),
    "wrong secret": lambda: ({}, signed({"x": SENTINEL}, secret=OTHER_SECRET), 401, ""),
    "old time": lambda: (
        {},
        ("hook", b"{}", signed({})[2] | {"webhook-timestamp": "1700000000"}),
        401,
        "",
    ),
    "unknown connection": lambda: ({}, signed({"x": SENTINEL}, conn_id="nobody"), 401, "is missing"),
    "no name": lambda: (
        {},
        signed({"x": SENTINEL}, conn_id="no%20name"),
        401,
        "not a valid connection id",
    ),
    "other type": lambda: ({"conn_type": "http"}, signed({"x": SENTINEL}), 401, "field conn_type"),
    "no secret": lambda: ({"password": ""}, signed({"x": SENTINEL}, secret="x"), 401, ""),
    "short secret": lambda: (
        {"password": "short"},
        signed({"x": SENTINEL}, secret="short"),
        401,
        "field password",
    ),
    "no kind": lambda: ({"extra": {"sender": ""}}, signed({"x": SENTINEL}), 401, "field sender"),
    "unknown kind": lambda: ({"extra": {"sender": "svn"}}, signed({"x": SENTINEL}), 401, "found 'svn'"),
    "speaks for none": lambda: (
        {"extra": {"speaks_for": ""}},
        signed({"x": SENTINEL}),
        401,
        "field speaks_for",
    ),
    "too large": lambda: ({}, ("hook", b"", {"content-length": "99999999"}), 413, "at most 26214400 bytes"),
    "too large for its kind": lambda: ({}, signed({"x": SENTINEL * 60_000}), 413, "at most 1048576 bytes"),
    "no JSON": lambda: ({}, ("hook", *signed({})[1:]), 400, "type"),
    "other form": lambda: ({}, signed({"type": "svn", "x": SENTINEL}), 400, "expected `type`"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals(
    receiver: Receiver,
    fakes: Fakes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    case: str,
) -> None:
    """The response reveals nothing but the status; the log has one line with the reason, never the body."""
    changes, (conn_id, body, headers), status, reason = REFUSALS[case]()
    if changes:
        connect(monkeypatch, **changes)
    found = receiver.post(conn_id, body, headers)
    (line,) = lines(caplog)
    assert (found.status, fakes.deliveries) == (status, [])
    assert found.body == NO_PROOF or status != 401
    name = conn_id.replace("%20", " ")
    assert line.startswith(f"Webhook {name!r} refused with {status}: ")
    assert reason in line
    assert not any(secret in line for secret in (SENTINEL, SECRET, OTHER_SECRET, "short"))
    assert set(found.body) == {"detail"}


async def chunked(count: int = 1, size: int = 5) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * size


FORM = {"content-type": "application/x-www-form-urlencoded"}
BY_STRANGERS: dict[str, tuple[int, Callable[[], dict[str, Any]]]] = {
    "no proof": (401, lambda: {"content": b"{}"}),
    "wrong signature": (
        401,
        lambda: dict(zip(("content", "headers"), signed(PUSH, secret="x")[1:], strict=True)),
    ),
    "empty": (401, dict),
    "chunked": (401, lambda: {"content": chunked()}),
    "another content type": (401, lambda: {"content": b"a=b&c=d", "headers": FORM}),
    "larger than most senders may": (401, lambda: {"content": chunked(2, 1024 * 1024)}),
    "large by its length": (413, lambda: {"headers": {"content-length": "26214401"}}),
    "large": (413, lambda: {"content": chunked(26, 1024 * 1024)}),
    "no length": (400, lambda: {"headers": {"content-length": "many"}}),
    "slow": (408, lambda: {"content": slow()}),
    "too much at once": (503, lambda: {"content": chunked(33, 1024 * 1024)}),
    "wrong method": (405, lambda: {"method": "PUT", "content": b"{}"}),
    "flood": (429, lambda: {"content": b"{}"}),
}
"""Requests without proof, with the status of their answer."""
KNOWN = ("hook", "github", "quay", "without_secret", "of_another_kind", "of_another_type")
UNKNOWN = ("nobody", "GitHub_2", "no%20name", "x" * 201)


@pytest.mark.parametrize("backend", ["", "a.SecretsBackend"], ids=["", "with a secrets backend"])
@pytest.mark.parametrize("case", BY_STRANGERS)
def test_strangers_can_not_tell_names(
    receiver: Receiver, fakes: Fakes, monkeypatch: pytest.MonkeyPatch, case: str, backend: str
) -> None:
    """Whatever they send, whole answers are alike for connections of every kind, and those that are not there."""
    status, request = BY_STRANGERS[case]
    connect(monkeypatch, "without_secret", password="")
    connect(monkeypatch, "of_another_kind", extra={"sender": "svn"})
    connect(monkeypatch, "of_another_type", conn_type="http")
    monkeypatch.setattr(sender_cache, "airflow_option", lambda *_: backend)
    monkeypatch.setattr(limits, "LONGEST_READ", 0.01 if case == "slow" else 30.0)
    if case == "flood":
        monkeypatch.setattr(limits, "STRANGERS", 3)
        for name in ("hook", "nobody", "else"):
            receiver.post(name, b"{}", {})
    if case == "too much at once":
        monkeypatch.setattr(module, "LARGEST", 100 * 1024 * 1024)
    found = {
        name: receiver.request(**{"method": "POST", "path": f"{PREFIX}/{name}"} | request())
        for name in (*KNOWN, *UNKNOWN, *KNOWN)
    }
    assert {name: (one.status, one.body, one.headers) for name, one in found.items()} == dict.fromkeys(
        found, (status, found["nobody"].body, found["nobody"].headers)
    )


def test_answers_without_proof_take_alike_long(
    receiver: Receiver, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is held back until a fixed time after its request, so that no lookup or comparison shows."""
    monkeypatch.setattr(module, "monotonic", iter((100.0, 100.03, 200.0, 200.2, 300.0)).__next__)
    assert [receiver.post(name, b"{}", {}).status for name in ("hook", "nobody")] == [401, 401]
    assert receiver.deliver(PUSH).status == 200
    assert fakes.waits == [pytest.approx(0.07), 0.0]


def test_a_dead_database_tells_no_names(receiver: Receiver, fakes: Fakes) -> None:
    """The answer is 503 then also for a sender that needs no database."""
    assert receiver.deliver(PUSH).status == 200
    fakes.now += sender_cache.SENDER_SECONDS
    fakes.database = OperationalError("SELECT 1", {}, Exception("gone"))
    found = [receiver.deliver(PUSH, conn_id=name, secret=OTHER_SECRET) for name in ("hook", "nobody")]
    assert [(one.status, one.body, one.headers) for one in found] == [
        (503, found[0].body, found[0].headers)
    ] * 2


def test_other_methods_and_paths(receiver: Receiver, fakes: Fakes) -> None:
    """The only route is POST on one path, without a page that describes it."""
    found = {
        (method, path): receiver.request(method, f"{PREFIX}{path}").status
        for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS")
        for path in ("/hook", "/nobody")
    }
    assert set(found.values()) == {405}
    paths = ("/", "/openapi.json", "/docs", "/redoc", "/hook/more")
    assert {path: receiver.request("GET", f"{PREFIX}{path}").status for path in paths} == {
        "/": 404,
        "/openapi.json": 405,
        "/docs": 405,
        "/redoc": 405,
        "/hook/more": 404,
    }
    assert fakes.lookups == []


def test_both_secrets_count_during_a_change(
    receiver: Receiver, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the old one ends with its field, some seconds later."""
    connect(monkeypatch, password=OTHER_SECRET, extra={"second_secret": SECRET})
    assert [receiver.deliver(PUSH, secret=one).status for one in (SECRET, OTHER_SECRET)] == [200, 200]
    connect(monkeypatch, password=OTHER_SECRET)
    assert receiver.deliver(PUSH).status == 200
    fakes.now += sender_cache.SENDER_SECONDS
    assert [receiver.deliver(PUSH, secret=one).status for one in (SECRET, OTHER_SECRET)] == [401, 200]


def test_a_secret_in_the_address_shows_nowhere(
    receiver: Receiver, fakes: Fakes, caplog: pytest.LogCaptureFixture
) -> None:
    """It counts, and is in no log and in no scope that others read."""
    caplog.set_level(logging.DEBUG)
    body = json.dumps({"repository": "shop/api", "namespace": "shop", "name": "api", "updated_tags": ["v1"]})
    found = [
        receiver.request("POST", f"{PREFIX}/quay?{query}", content=body.encode()).status
        for query in (f"token={SECRET}", f"a=b&token={SECRET}", "token=wrong", f"key={SECRET}", "")
    ]
    assert found == [200, 200, 401, 401, 401]
    # httpx is the client here, and logs what it asks for.
    assert not [one for one in caplog.records if SECRET in one.getMessage() and one.name != "httpx"]


@pytest.mark.parametrize("query", [b"token=secret", b"&" * 100, b"%ff=%00&token=\xff", b"token=a&token=b"])
def test_the_address_is_emptied(query: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything else sees the request, whatever is in there."""
    seen: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope)

    monkeypatch.setattr("delivery_chain.web._receiver", lambda: app)
    scope: Any = {"type": "http", "query_string": query}
    with pytest.raises(StopIteration):
        webhooks(scope, None, None).send(None)  # type: ignore[arg-type]
    assert (seen["query_string"], scope["query_string"]) == (b"", b"")
    assert isinstance(seen[IN_ADDRESS], str)


@pytest.mark.parametrize("kind", sorted(SENDERS))
def test_no_sender_without_a_secret(
    receiver: Receiver, fakes: Fakes, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Where no secret is set, every kind of sender is answered 401, also with empty proofs."""
    connect(monkeypatch, password="", extra={"sender": kind})
    headers = {
        "authorization": "Bearer ",
        "x-gitlab-token": "",
        "x-hub-signature-256": "sha256=",
        "webhook-id": "x",
    }
    assert receiver.post("hook", b"{}", headers).status == 401


def test_a_wrong_connection_is_a_configuration_error() -> None:
    """What the receiver catches is what the hook raises."""
    with pytest.raises(ConfigurationError):
        WebhookSenderHook("nobody").sender()
