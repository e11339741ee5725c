"""The senders by the names of their connections, remembered for seconds: a flood asks neither database nor vault."""

from __future__ import annotations

import asyncio
import re
import time
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
"""How long a connection is believed: a changed secret counts after that, and a flood asks no database."""
MOST_UNKNOWN = 2000
"""Names without a sender that are remembered."""
LOOKUPS = 60
"""Names that are looked up in a minute, where they are not those of senders."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,199}")


def unproved(why: str) -> WebhookRefused:
    """The same answer for every request that proves nothing; why is for the log."""
    error = WebhookRefused(401, NO_PROOF)
    error.add_note(why)
    return error


class SenderCache:
    """The senders that one server process knows. One lookup of a name at a time, however many ask for it.

    Those that are no senders are remembered apart: whoever makes names up displaces no sender, and no sender that is
    known waits for the lookups of made-up names. One that is not known yet may have to.
    """

    def __init__(self, rate: Rate, workers: CapacityLimiter) -> None:
        """Know nobody.

        Args:
            rate: Bounds the lookups of names that are not those of senders.
            workers: Threads for lookups.
        """
        self.rate = rate
        self.workers = workers
        self.strangers = CapacityLimiter(1)
        self._senders: dict[str, tuple[float, WebhookSender]] = {}
        self._unknown: dict[str, tuple[float, str]] = {}
        self._asked: dict[str, asyncio.Task[WebhookSender | str]] = {}

    async def sender(self, connection: str) -> WebhookSender:
        """The sender behind a connection.

        Raises:
            WebhookRefused: 401: there is none. 429: too many names are asked for. 503: the database does not answer.
        """
        if not _NAME.fullmatch(connection):
            raise unproved("that is no connection's name")
        found = self._remembered(connection) or await self._ask(connection)
        if isinstance(found, str):
            raise unproved(found)
        return found

    def _remembered(self, connection: str) -> WebhookSender | str | None:
        until, found = self._senders.get(connection) or self._unknown.get(connection) or (0.0, None)
        return found if time.monotonic() < until else None

    async def _ask(self, connection: str) -> WebhookSender | str:
        asked = self._asked.get(connection)
        if asked is None:
            if connection not in self._senders:
                self.rate.take("", LOOKUPS)
            asked = self._asked[connection] = asyncio.create_task(self._look(connection))
            asked.add_done_callback(lambda _: self._asked.pop(connection, None))
        # One that is cancelled takes no answer from the others.
        return await asyncio.shield(asked)

    async def _look(self, connection: str) -> WebhookSender | str:
        # Made-up names wait for each other, and for nobody else's sake.
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


def _sender(connection: str) -> WebhookSender | str:
    try:
        return WebhookSenderHook(connection).sender()
    except ConfigurationError as error:
        # Airflow says that a connection is missing also where its database does not answer, which passes.
        ping()
        return str(error)
