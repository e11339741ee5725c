"""Caches senders by connection id for a few seconds, so that a flood reaches neither database nor secrets backend."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from delivery_chain.airflow_db.session import ping
from delivery_chain.errors import ConfigurationError, WebhookRefused
from delivery_chain.hooks.webhook_sender import WebhookSender, WebhookSenderHook
from delivery_chain.senders.base import NO_PROOF

if TYPE_CHECKING:
    from delivery_chain.web.limits import Rate

SENDER_SECONDS = 10.0
"""Lifetime of a cached connection, after which a changed secret takes effect."""
MOST_UNKNOWN = 2000
"""Cached ids without a sender."""
LOOKUPS = 60
"""Lookups per minute of ids that are not known senders."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,199}")


def unproved(why: str) -> WebhookRefused:
    """The same refusal for every unauthenticated request; `why` goes only into the log."""
    error = WebhookRefused(401, NO_PROOF)
    error.add_note(why)
    return error


@dataclass(frozen=True, slots=True)
class NoSender:
    """A connection id without a sender."""

    reason: str
    """Why not. For the log only, since a stranger would learn from it which ids exist."""


class SenderCache:
    """A server process's cache of senders. Concurrent requests for one id share a lookup.

    Unknown ids are cached separately, so that made-up ones neither evict a sender nor delay a cached one. A sender
    that is not cached yet may have to wait for their lookups.
    """

    def __init__(self, rate: Rate, workers: CapacityLimiter) -> None:
        """Start empty.

        Args:
            rate: Limits lookups of ids that are not known senders.
            workers: Threads for lookups.
        """
        self.rate = rate
        self.workers = workers
        self.strangers = CapacityLimiter(1)
        self._senders: dict[str, tuple[float, WebhookSender]] = {}
        self._unknown: dict[str, tuple[float, NoSender]] = {}
        self._asked: dict[str, asyncio.Task[WebhookSender | NoSender]] = {}

    async def sender(self, connection: str) -> WebhookSender:
        """The sender behind a connection.

        Raises:
            WebhookRefused: 401: no such sender. 429: too many unknown ids. 503: the database does not answer.
        """
        if not _NAME.fullmatch(connection):
            raise unproved("not a valid connection id")
        found = self._remembered(connection) or await self._ask(connection)
        if isinstance(found, NoSender):
            raise unproved(found.reason)
        return found

    def _remembered(self, connection: str) -> WebhookSender | NoSender | None:
        until, found = self._senders.get(connection) or self._unknown.get(connection) or (0.0, None)
        return found if time.monotonic() < until else None

    async def _ask(self, connection: str) -> WebhookSender | NoSender:
        asked = self._asked.get(connection)
        if asked is None:
            if connection not in self._senders:
                self.rate.take("", LOOKUPS)
            asked = self._asked[connection] = asyncio.create_task(self._look(connection))
            asked.add_done_callback(lambda _: self._asked.pop(connection, None))
        # A cancelled request must not cancel the lookup for the others.
        return await asyncio.shield(asked)

    async def _look(self, connection: str) -> WebhookSender | NoSender:
        # Unknown ids queue among themselves, without delaying known senders.
        limiter = self.workers if connection in self._senders else self.strangers
        found = await run_sync(_sender, connection, limiter=limiter)
        until = time.monotonic() + SENDER_SECONDS
        self._senders.pop(connection, None)
        self._unknown.pop(connection, None)
        if isinstance(found, WebhookSender):
            self._senders[connection] = until, found
        else:
            if len(self._unknown) >= MOST_UNKNOWN:
                self._unknown.clear()
            self._unknown[connection] = until, found
        return found


def _sender(connection: str) -> WebhookSender | NoSender:
    try:
        return WebhookSenderHook(connection).sender()
    except ConfigurationError as error:
        # Airflow reports a missing connection also when its database does not answer, which is transient.
        ping()
        return NoSender(str(error))
