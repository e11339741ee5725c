"""Limits of the receiver: look-ups, rates, waits, slow clients."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import OperationalError

from delivery_chain.errors import WebhookRefused
from delivery_chain.web import limits, sender_cache
from delivery_chain.web import receiver as module
from support.receiver_fakes import PUSH, SENTINEL, Fakes, lines, slow
from support.webhook_airflow import (
    OTHER_SECRET,
    PREFIX,
    Receiver,
    connect,
    signed,
)

if TYPE_CHECKING:
    import pytest


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


def test_slow_ones_are_cut_off(
    receiver: Receiver, fakes: Fakes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A body that does not come ends with 408."""
    monkeypatch.setattr(limits, "LONGEST_READ", 0.01)

    found = receiver.request("POST", f"{PREFIX}/hook", content=slow())
    assert (found.status, len(lines(caplog))) == (408, 1)
