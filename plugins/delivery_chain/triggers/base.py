"""Base of the triggers that poll until the state differs from the known one."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from airflow.triggers.base import BaseTrigger, TriggerEvent

from delivery_chain.core.events.history import Told
from delivery_chain.core.events.watch_dags import OVER, over_key
from delivery_chain.errors import ConfigurationError, DeliveryChainError
from delivery_chain.retry import delay_after

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

T = TypeVar("T")

SINCE, LOOKED, SETUP = "since", "looked", "setup"
LATER = ("known", "poll_seconds", SINCE, "told")
OVER_SECONDS = 60.0
"""Seconds between two checks whether a watch is still needed."""


THREADS = 16
"""Maximum number of concurrent polls of one kind in a triggerer."""


@cache
def _threads(kind: type) -> ThreadPoolExecutor:
    """The threads that run the polls of one kind of trigger."""
    return ThreadPoolExecutor(THREADS, thread_name_prefix=kind.__name__)


class PollTrigger(BaseTrigger):
    """Fires once, as soon as a poll finds a state other than the known one.

    The event is `{"refs": [change, …], "gone": [key, …], "seen": {key: value, …}, "looked": time,
    "since": time}`, or `{"error": message}` for a failure that waiting can't fix, with `"setup": true` if a
    connection or setting is missing or wrong. `looked` is the start of the poll. `since` is the start of the last poll
    that found nothing new or moved, or None without one. Both are ISO 8601, UTC, by the clock of this process. Other
    failures are retried with a backoff of at most five minutes.
    """

    arguments: ClassVar[tuple[str, ...]] = ()
    """The subclass's constructor arguments beyond `LATER`; each is also an attribute."""

    def __init__(
        self,
        *,
        known: dict[str, str] | None,
        poll_seconds: float,
        since: str | None,
        told: str | None = None,
    ) -> None:
        """Store the arguments; no I/O.

        Args:
            known: Maps known keys to their values; None to fire at the first poll, with every key as new.
            poll_seconds: Seconds between two polls.
            since: Value of `since` in the event if the first poll already finds something.
            told: Airflow Variable with the moves that webhooks reported, for chains' own watches.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.known = known
        self.poll_seconds = poll_seconds
        self.since = since
        self.told = told
        self._ask_at = time.monotonic() + OVER_SECONDS

    @abstractmethod
    def look(self) -> dict[str, str]:
        """The current keys and values. Blocks.

        Raises:
            DeliveryChainError: The poll failed. Retryable if another poll may succeed.
        """

    @abstractmethod
    def difference(self, known: dict[str, str], seen: dict[str, str]) -> dict[str, Any]:
        """The event's `refs`, `gone` and `seen`."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments, from which Airflow recreates the trigger."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            name: getattr(self, name) for name in (*self.arguments, *LATER)
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll until there is an event to yield."""
        failures = 0
        while True:
            try:
                if await self._in_thread(self._is_over):
                    yield TriggerEvent({OVER: True})  # type: ignore[no-untyped-call]
                    return
                event = await self._in_thread(self.event)
            except DeliveryChainError as error:
                if not error.retryable:
                    yield TriggerEvent(_failed(error))  # type: ignore[no-untyped-call]
                    return
                failures += 1
                delay = delay_after(failures, error.retry_after)
                self.log.warning("%s (failed polls in a row: %s; next poll in %g s)", error, failures, delay)
                await asyncio.sleep(delay)
                continue
            failures = 0
            if event is not None:
                yield TriggerEvent(event)  # type: ignore[no-untyped-call]
                return
            await asyncio.sleep(self.poll_seconds)

    async def _in_thread(self, do: Callable[[], T]) -> T:
        """Run a blocking call (a poll, or a read of Airflow's connections and secrets) in a thread pool of our own.

        Endpoints that do not answer would otherwise exhaust the few threads that all triggers share.
        """
        return await asyncio.get_running_loop().run_in_executor(_threads(type(self)), do)

    def _is_over(self) -> bool:
        """Whether no chain needs this watch any longer; for chains' own watches, checked once a minute. Blocks."""
        if not self.told or time.monotonic() < self._ask_at:
            return False
        from airflow.sdk import Variable  # noqa: PLC0415 - of chains' own watches only
        from airflow.sdk.exceptions import AirflowRuntimeError  # noqa: PLC0415

        self._ask_at = time.monotonic() + OVER_SECONDS
        try:
            return Variable.get(over_key(self.told), default=None) is not None
        except AirflowRuntimeError:
            return False

    def event(self) -> dict[str, Any] | None:
        """Poll once; return the event, or None if nothing differs from the known state. Blocks.

        Raises:
            DeliveryChainError: Retryable if another poll may succeed.
        """
        began = _now()
        seen = self.look()
        known = self.known or {}
        event = self.difference({**known, **self._overlooked(seen, began)}, seen)
        if not event["refs"]:
            self.since = began
        same = seen == self.known and not event["refs"]
        return None if same else {**event, LOOKED: began, SINCE: self.since}

    def _overlooked(self, seen: dict[str, str], began: str) -> dict[str, str]:
        """Keys that webhooks reported with another value since the last poll, though both polls saw the same value.

        They moved away and back between two polls. If no webhook reported the way back, only this detects it.
        """
        if not self.told or not self.since:
            return {}
        from delivery_chain.hooks.absence import read_variable  # noqa: PLC0415 - of chains' own watches only

        text = read_variable(self.told)
        since, looked = (datetime.fromisoformat(time) for time in (self.since, began))
        return Told.read(text).between(seen, since=since, looked=looked)


def _failed(error: DeliveryChainError) -> dict[str, Any]:
    """The event of a failure that waiting can't fix. `setup` marks one to fix in this Airflow's configuration."""
    return {"error": str(error)} | ({SETUP: True} if isinstance(error, ConfigurationError) else {})


def _now() -> str:
    return datetime.now(UTC).isoformat()
