"""A receiver without an Airflow."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.core.events.ledger import Entry, StartResult
from delivery_chain.hooks.webhook_sender import WebhookSenderHook
from delivery_chain.web import limits, sender_cache
from delivery_chain.web import receiver as module
from support.receiver_fakes import Fakes
from support.webhook_airflow import (
    MAIN,
    A,
    Receiver,
    connect,
    make_receiver,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


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
        outcomes=(StartResult(chain="shop", rule="main", run_id="r1", made=True),),
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
