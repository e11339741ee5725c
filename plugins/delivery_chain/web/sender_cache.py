"""Caches senders by connection id for a few seconds, so that a flood reaches neither database nor secrets backend."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from delivery_chain.airflow_db.senders import sender_names
from delivery_chain.airflow_db.session import ping
from delivery_chain.errors import ConfigurationError
from delivery_chain.hooks.webhook_sender import WebhookSender, WebhookSenderHook, in_environment
from delivery_chain.senders.table import SENDERS
from delivery_chain.settings import airflow_option

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SENDER_SECONDS = 10.0
"""Lifetime of a cached connection, after which a changed secret takes effect."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,199}")
_LIST = ""
"""Key of the query that lists the names; no connection has this id."""


@dataclass(frozen=True, slots=True)
class NoSender:
    """A connection id without a usable sender behind it."""

    why: str
    """For the log alone."""


class SenderCache:
    """A server process's cache of senders. Concurrent requests for one id share a lookup.

    One query lists the senders in Airflow's database, and the environment has the others; only these names are looked
    up freely, and only they, and senders that proved themselves, are cached. So made-up names cost nothing and delay
    nobody. A secrets backend can't be listed: its senders are searched by name, one at a time, while the caller permits
    it, until they have proved themselves.
    """

    def __init__(self, workers: CapacityLimiter) -> None:
        """Start empty.

        Args:
            workers: Threads for lookups.
        """
        self.workers = workers
        self.searches = CapacityLimiter(1)
        self.searchable = bool(airflow_option("secrets", "backend"))
        self._names: frozenset[str] = frozenset()
        self._names_until = 0.0
        self._found: dict[str, tuple[float, WebhookSender | NoSender]] = {}
        self._asked: dict[str, asyncio.Task[Any]] = {}

    async def find(self, connection: str, *, search: bool) -> WebhookSender | NoSender:
        """The sender behind a connection, or the reason why it has none.

        Args:
            connection: Any text, as the request gives it.
            search: Whether a name that is not listed may be looked up.

        Raises:
            SQLAlchemyError: The database does not answer.
        """
        if not _NAME.fullmatch(connection):
            return NoSender("not a valid connection id")
        listed = await self._listed(connection)
        until, found = self._found.get(connection, (0.0, None))
        if found and time.monotonic() < until:
            return found
        if not listed and not (self.searchable or in_environment(connection)):
            return NoSender(f"connection {connection!r} is missing")
        if not (listed or search or connection in self._asked):
            return NoSender("not looked up, because too many requests have no valid signature or token")
        looked: WebhookSender | NoSender = await self._once(
            connection, lambda: self._look(connection, listed)
        )
        return looked

    def keep(self, sender: WebhookSender) -> None:
        """Cache a sender that proved itself; later lookups are free."""
        self._found.setdefault(sender.conn_id, (time.monotonic() + SENDER_SECONDS, sender))

    async def _listed(self, connection: str) -> bool:
        # For cached senders, too: otherwise a dead database would reveal them.
        if time.monotonic() >= self._names_until:
            await self._once(_LIST, self._list)
        # Airflow ignores the case of names in the environment, whose variants must not fill the cache.
        exact = connection == connection.lower() and in_environment(connection)
        return exact or connection in self._names or connection in self._found

    async def _list(self) -> None:
        self._names = await run_sync(sender_names, limiter=self.workers)
        self._names_until = time.monotonic() + SENDER_SECONDS

    async def _look(self, connection: str, listed: bool) -> WebhookSender | NoSender:  # noqa: FBT001 - private
        limiter = self.workers if listed else self.searches
        found = await run_sync(_sender, connection, limiter=limiter)
        self._found.pop(connection, None)
        if listed:
            self._found[connection] = time.monotonic() + SENDER_SECONDS, found
        return found

    async def _once(self, key: str, work: Callable[[], Awaitable[Any]]) -> Any:
        asked = self._asked.get(key)
        if asked is None:
            asked = self._asked[key] = asyncio.ensure_future(work())
            asked.add_done_callback(lambda _: self._asked.pop(key, None))
        # A cancelled request must not cancel the lookup for the others.
        return await asyncio.shield(asked)


def _sender(connection: str) -> WebhookSender | NoSender:
    try:
        sender = WebhookSenderHook(connection).sender()
    except ConfigurationError as error:
        # Airflow reports a missing connection also when its database does not answer, which is transient.
        ping()
        return NoSender(str(error))
    if sender.kind not in SENDERS:
        return NoSender(f"field sender: expected one of {', '.join(SENDERS)}, found {sender.kind[:100]!r}")
    return sender
