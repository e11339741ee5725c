from __future__ import annotations

import asyncio
import json
import logging
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.exc import OperationalError

from delivery_chain.core.events.ledger import Entry, Outcome
from delivery_chain.errors import ConfigurationError, WebhookRefused
from delivery_chain.hooks.webhook_sender import WebhookSenderHook
from delivery_chain.senders.table import SENDERS
from delivery_chain.web import IN_ADDRESS, limits, sender_cache, webhooks
from delivery_chain.web import receiver as module
from support.webhook_airflow import (
    MAIN,
    OTHER_SECRET,
    PREFIX,
    SECRET,
    A,
    Receiver,
    connect,
    make_receiver,
    moved,
    signed,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

NO_PROOF = {"detail": "the request carries no valid signature or token"}
PUSH = moved((MAIN, "", A))
SENTINEL = "SENTINEL-of-the-body"


@dataclass
class Fakes:
    """What stands in for Airflow's database."""

    deliveries: list[Any] = field(default_factory=list)
    """What was taken."""
    fails: list[Exception] = field(default_factory=list)
    """Raised by the next ones."""
    lookups: list[str] = field(default_factory=list)
    """Connections that were looked up."""
    now: float = 1000.0
    database: Exception | None = None
    """What a look at the database raises."""
    names: set[str] = field(default_factory=set)
    """Senders in the database."""
    listings: int = 0
    """How often they were listed."""
    waits: list[float] = field(default_factory=list)
    """Seconds for which answers were held back."""


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Fakes:
    """The receiver's surroundings: connections `hook`, `github` and `quay`, a clock, and an intake that remembers."""
    made = Fakes()
    entry = Entry(
        ref=MAIN,
        commit=A,
        before="",
        at=datetime(2026, 5, 20, tzinfo=UTC),
        by="webhook hook",
        outcomes=(Outcome(chain="shop", rule="main", run_id="r1", made=True),),
    )

    def take(**about: Any) -> list[Entry]:
        if made.fails:
            raise made.fails.pop(0)
        made.deliveries.append(about["notification"])
        return [entry]

    class Hook(WebhookSenderHook):
        def sender(self) -> Any:
            made.lookups.append(self.conn_id)
            return super().sender()

    def ping() -> None:
        if made.database:
            raise made.database

    monkeypatch.setattr(module, "take", take)
    monkeypatch.setattr(module, "Index", type("Index", (), {"chains": lambda _: None}))
    monkeypatch.setattr(sender_cache, "WebhookSenderHook", Hook)

    def names() -> frozenset[str]:
        made.listings += 1
        ping()
        return frozenset(made.names)

    async def wait(seconds: float) -> None:
        made.waits.append(seconds)

    monkeypatch.setattr(module, "sleep", wait)
    monkeypatch.setattr(sender_cache, "ping", ping)
    monkeypatch.setattr(sender_cache, "sender_names", names)
    # The event loop has its own clock.
    for part in (sender_cache, limits):
        monkeypatch.setattr(part, "time", SimpleNamespace(monotonic=lambda: made.now))
    for conn_id in ("hook", "github", "quay"):
        sender = "standard" if conn_id == "hook" else conn_id
        connect(monkeypatch, conn_id, extra={"sender": sender})
    return made


@pytest.fixture
def receiver(fakes: Fakes) -> Iterator[Receiver]:
    """The plugin's receiver as Airflow mounts it."""
    with make_receiver() as made:
        yield made


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the receiver logged."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("delivery_chain") and record.levelno >= logging.WARNING
    ]


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
    """The status and a text that tells strangers nothing; one line in the log with the reason, never with the body."""
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


async def slow() -> AsyncIterator[bytes]:
    yield b"{"
    await asyncio.get_running_loop().create_future()


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
    """There is POST on one path, and no page that describes it."""
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


def test_a_removed_connection_ends(receiver: Receiver, fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for a sender that was known."""
    assert receiver.deliver(PUSH).status == 200
    monkeypatch.delenv("AIRFLOW_CONN_HOOK")
    fakes.now += sender_cache.SENDER_SECONDS
    assert receiver.deliver(PUSH).status == 401
    connect(monkeypatch)
    fakes.now += sender_cache.SENDER_SECONDS
    assert receiver.deliver(PUSH).status == 200


def test_a_connection_is_looked_up_once_for_many(
    receiver: Receiver, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred requests at once, for a sender and for nobody: one lookup each, and one list of names."""
    monkeypatch.setattr(limits, "STRANGERS", 1000)
    monkeypatch.setattr(sender_cache, "airflow_option", lambda *_: "a.SecretsBackend")
    found = receiver.all([signed(PUSH), signed(PUSH, conn_id="nobody")] * 50)
    assert sorted(one.status for one in found) == [200] * 50 + [401] * 50
    assert (sorted(fakes.lookups), fakes.listings) == (["hook", "nobody"], 1)


def test_made_up_names_are_not_looked_up(
    receiver: Receiver, fakes: Fakes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After so many a minute they are refused otherwise; senders are served nevertheless, known or new."""
    monkeypatch.setattr(limits, "STRANGERS", 30)
    receiver.deliver(PUSH)
    found = receiver.all(signed(PUSH, conn_id=f"name{number}") for number in range(100))
    assert ([one.status for one in found].count(401), {one.status for one in found}) == (30, {401, 429})
    assert (fakes.lookups, fakes.listings) == (["hook"], 1)
    connect(monkeypatch, "new")
    fakes.now += 5 * sender_cache.SENDER_SECONDS
    assert [receiver.deliver(PUSH, conn_id=name).status for name in ("hook", "new", "hook")] == [200] * 3
    assert len(lines(caplog)) == 100


def test_a_new_sender_in_the_database_is_listed(
    receiver: Receiver, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some seconds after it was added, also in a flood."""
    monkeypatch.setattr(sender_cache, "in_environment", lambda _: False)
    monkeypatch.setattr(limits, "STRANGERS", 1)
    assert [receiver.deliver(PUSH).status for _ in range(2)] == [401, 429]
    fakes.names.add("hook")
    fakes.now += sender_cache.SENDER_SECONDS
    assert [receiver.deliver(PUSH).status for _ in range(2)] == [200, 200]


def test_names_of_a_secrets_backend_are_searched_within_bounds(
    receiver: Receiver, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood has so many lookups, then no more; a sender that proved itself before is served nevertheless."""
    monkeypatch.setattr(sender_cache, "airflow_option", lambda *_: "a.SecretsBackend")
    monkeypatch.setattr(sender_cache, "in_environment", lambda _: False)
    monkeypatch.setattr(limits, "STRANGERS", 30)
    connect(monkeypatch, "other")
    assert receiver.deliver(PUSH).status == 200
    fakes.now += 5 * sender_cache.SENDER_SECONDS
    receiver.all(signed(PUSH, conn_id=f"name{number}") for number in range(100))
    assert len(fakes.lookups) == 31
    found = [receiver.deliver(PUSH, conn_id=name) for name in ("hook", "other")]
    assert [(one.status, one.headers.get("retry-after")) for one in found] == [(200, None), (429, "2")]


def test_other_spellings_of_a_name_fill_no_cache(
    receiver: Receiver, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow finds a connection of the environment by any of them; they count as requests without proof."""
    monkeypatch.setattr(limits, "STRANGERS", 2)
    wrong = [
        receiver.deliver(PUSH, conn_id=name, secret=OTHER_SECRET).status for name in ("Hook", "HOok", "HOOK")
    ]
    assert (wrong, fakes.lookups) == ([401, 401, 429], ["Hook", "HOok"])


def test_a_database_that_does_not_answer_is_no_wrong_secret(
    receiver: Receiver, fakes: Fakes, caplog: pytest.LogCaptureFixture
) -> None:
    """Airflow says then that the connection is missing; the sender must come again all the same."""
    fakes.database = OperationalError("SELECT 1", {}, Exception("gone\nDETAIL: secret things"))
    found = receiver.deliver(PUSH, conn_id="stored")
    assert (found.status, found.headers["retry-after"], found.body) == (
        503,
        "5",
        {"detail": "Airflow's database did not take it"},
    )
    assert lines(caplog) == [
        "Webhook 'stored' refused with 503: Airflow's database did not take it; OperationalError: gone"
    ]
    fakes.database = None
    assert receiver.deliver(PUSH, conn_id="stored").status == 401


def test_a_write_that_fails(receiver: Receiver, fakes: Fakes, caplog: pytest.LogCaptureFixture) -> None:
    """503 with the time to wait, and the log has the driver's words, not the statement's values."""
    fakes.fails = [OperationalError("INSERT", {"extra": SENTINEL}, Exception(f"disk full\n{SENTINEL}"))]
    found = [receiver.deliver(PUSH, delivery="one") for _ in range(2)]
    assert [(one.status, one.headers.get("retry-after")) for one in found] == [(503, "5"), (200, None)]
    assert lines(caplog) == [
        "Webhook 'hook' refused with 503: Airflow's database did not take it; OperationalError: disk full"
    ]


def test_waits_are_told_in_whole_seconds(receiver: Receiver, fakes: Fakes) -> None:
    """A header takes no fractions, and an early retry would be refused again."""
    fakes.fails = [
        WebhookRefused(429, "later", retry_after=0.2),
        WebhookRefused(503, "later", retry_after=7.1),
    ]
    assert [receiver.deliver(PUSH).headers["retry-after"] for _ in range(2)] == ["1", "8"]


def test_no_more_wait_than_may(receiver: Receiver, fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond that they are asked to come again; those before are taken, and then there is room again."""
    monkeypatch.setattr(module, "MOST_WAITING", 3)
    entered, go = threading.Semaphore(0), threading.Event()
    take = module.take

    def slow(**about: Any) -> Any:
        entered.release()
        assert go.wait(10)
        return take(**about)

    monkeypatch.setattr(module, "take", slow)
    watch = threading.Thread(target=lambda: (entered.acquire(timeout=10), go.set()))
    watch.start()
    found = receiver.all([signed(PUSH)] * 10)
    watch.join()
    assert sorted(one.status for one in found) == [200] * 3 + [503] * 7
    assert receiver.deliver(PUSH).status == 200


def test_the_rate_counts_what_is_proved(
    receiver: Receiver, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger's requests take no delivery from the sender."""
    connect(monkeypatch, extra={"per_minute": 2})
    assert {receiver.deliver(PUSH, secret=OTHER_SECRET).status for _ in range(5)} == {401}
    assert [receiver.deliver(PUSH).status for _ in range(3)] == [200, 200, 429]


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


def test_slow_ones_are_cut_off(
    receiver: Receiver, fakes: Fakes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A body that does not come ends with 408."""
    monkeypatch.setattr(limits, "LONGEST_READ", 0.01)

    found = receiver.request("POST", f"{PREFIX}/hook", content=slow())
    assert (found.status, len(lines(caplog))) == (408, 1)


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
