"""What triggers have in common that look at something again and again until it is not what is known."""

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
"""From one question whether a watch is needed any more to the next."""


THREADS = 16
"""Looks of one kind that a triggerer has under way at once."""


@cache
def _threads(kind: type) -> ThreadPoolExecutor:
    """The threads for the looks of one kind of trigger."""
    return ThreadPoolExecutor(THREADS, thread_name_prefix=kind.__name__)


class PollTrigger(BaseTrigger):
    """Fires once, as soon as a look finds something else than what is known.

    The event is `{"refs": [change, …], "gone": [key, …], "seen": {key: value, …}, "looked": time,
    "since": time}`, or `{"error": message}` for what waiting cannot mend, with `"setup": true` where a connection or
    setting is missing or wrong. `looked` is when the look began, `since`
    when the last one did that found nothing new or moved, None where no look did yet: ISO 8601, UTC, by this process's
    clock. What does not answer is asked again, ever less often, at least each five minutes.
    """

    arguments: ClassVar[tuple[str, ...]] = ()
    """Names of what the subclass's constructor takes beyond `LATER`; each is an attribute too."""

    def __init__(
        self,
        *,
        known: dict[str, str] | None,
        poll_seconds: float,
        since: str | None,
        told: str | None = None,
    ) -> None:
        """Look at nothing yet.

        Args:
            known: Key to value; None makes the first look the event, with all that is there as new.
            poll_seconds: Time between two looks.
            since: The event's `since` where this trigger's own looks find something at once.
            told: Airflow Variable with what webhooks told, for the watches of chains.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.known = known
        self.poll_seconds = poll_seconds
        self.since = since
        self.told = told
        self._ask_at = time.monotonic() + OVER_SECONDS

    @abstractmethod
    def look(self) -> dict[str, str]:
        """What is there now, key to value. Blocks.

        Raises:
            DeliveryChainError: Retryable where another look may work.
        """

    @abstractmethod
    def difference(self, known: dict[str, str], seen: dict[str, str]) -> dict[str, Any]:
        """The event's `refs`, `gone` and `seen`."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments, from which Airflow makes the trigger again."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            name: getattr(self, name) for name in (*self.arguments, *LATER)
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look, wait, and look again until there is something to say."""
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
                self.log.warning(
                    "%s (look %s in a row that failed; the next in %g s)", error, failures, delay
                )
                await asyncio.sleep(delay)
                continue
            failures = 0
            if event is not None:
                yield TriggerEvent(event)  # type: ignore[no-untyped-call]
                return
            await asyncio.sleep(self.poll_seconds)

    async def _in_thread(self, do: Callable[[], T]) -> T:
        """Do what blocks in a thread of ours: looks do, Airflow's own calls (connection, secrets) do too.

        Places that do not answer must not take the few threads that all triggers share.
        """
        return await asyncio.get_running_loop().run_in_executor(_threads(type(self)), do)

    def _is_over(self) -> bool:
        """Whether no chain needs this watch any more; asked once a minute, and of chains' own watches alone. Blocks."""
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
        """Look once; the event, or None where all is as it is known. Blocks.

        Raises:
            DeliveryChainError: Retryable where another look may work.
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
        """Where webhooks told things to be since the last look, which this look finds where that one did.

        They moved and came back between two looks; without this nobody would notice where the second move was lost.
        """
        if not self.told or not self.since:
            return {}
        from delivery_chain.hooks.absence import read_variable  # noqa: PLC0415 - of chains' own watches only

        text = read_variable(self.told)
        since, looked = (datetime.fromisoformat(time) for time in (self.since, began))
        return Told.read(text).between(seen, since=since, looked=looked)


def _failed(error: DeliveryChainError) -> dict[str, Any]:
    """The event of what waiting can't mend; told apart is what is mended in this Airflow."""
    return {"error": str(error)} | ({SETUP: True} if isinstance(error, ConfigurationError) else {})


def _now() -> str:
    return datetime.now(UTC).isoformat()
