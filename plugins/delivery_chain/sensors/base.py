"""What sensors have in common that wait until something new or moved is there, in the triggerer or here."""

from __future__ import annotations

import time
from abc import abstractmethod
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, cast

from airflow.sdk import BaseSensorOperator, PokeReturnValue
from airflow.sdk.exceptions import AirflowSensorTimeout

from delivery_chain.errors import ConfigurationError

if TYPE_CHECKING:
    from airflow.sdk import Context
    from pydantic import JsonValue

    from delivery_chain.triggers.base import PollTrigger

REFS, SINCE, LOOKED, SETUP = "refs", "since", "looked", "setup"


class RefSensor(BaseSensorOperator):
    """Waits until a look finds something new or moved, compared with what is known.

    What went away ends no wait, and counts as new when it comes back. What is known is kept in the task's state,
    so that a retry misses nothing: `{"refs": {key: value, …}, "since": time}`. See `PollTrigger` for `since`.
    """

    state_key: ClassVar[str]
    """Where the task's state keeps what is known."""
    awaited: ClassVar[str]
    """What the sensor waits for, in the words of its timeout."""
    told_in: str | None = None
    """Airflow Variable with what webhooks told, for the watches of chains; see `PollTrigger`."""
    ui_color = "#e2ecf7"

    def __init__(
        self,
        *,
        known: dict[str, str] | None = None,
        poll_seconds: float | None = None,
        deferrable: bool = True,
        **kwargs: Any,
    ) -> None:
        """Look at nothing yet.

        Args:
            known: Key to value; None for what is there when the first try starts.
            poll_seconds: Time between two looks; None for the installation's setting.
            deferrable: Wait in the triggerer, without a worker's slot.
            **kwargs: For BaseSensorOperator: `timeout` (seconds), `soft_fail`, `mode`, …
        """
        super().__init__(**kwargs)
        self.known = known
        self.poll_seconds = poll_seconds
        self.deferrable = deferrable

    @abstractmethod
    def _trigger(self, known: dict[str, str], since: str | None) -> PollTrigger:
        """What looks, here and in the triggerer."""

    @abstractmethod
    def _failure(self, message: str) -> Exception:
        """The error for what the trigger could not mend by waiting. Not retryable."""

    @abstractmethod
    def _usual_pause(self) -> float:
        """Seconds between two looks where the Dag says nothing."""

    def execute(self, context: Context) -> Any:
        """Wait; see the class.

        Raises:
            AirflowSensorTimeout: Nothing came within `timeout`.
            DeliveryChainError: The look failed. Its class says whether it is retryable.
        """
        if not self.deferrable:
            self.poke_interval = self._pause()
            return super().execute(context)
        known = self._known(context)
        return self._wait(known, self._since(context), started=time.time())

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once; what went away is forgotten, so that it counts as new when it comes back."""
        known = self._known(context)
        began = _now()
        seen = self._look()
        event = self._trigger(known, None).difference(known, seen)
        if not event[REFS]:
            self._remember(context, seen, began)
            return PokeReturnValue(is_done=False)
        event |= {SINCE: self._since(context), LOOKED: began}
        return PokeReturnValue(is_done=True, xcom_value=self._result(context, event))

    def looked(self, context: Context, event: dict[str, Any], started: float) -> Any:
        """Take the trigger's event: the result, or on to the next wait where things only went away.

        Args:
            context: Airflow's.
            event: See `PollTrigger`.
            started: When the wait began, seconds since 1970.

        Raises:
            DeliveryChainError: What waiting cannot mend. Not retryable.
        """
        if "error" in event:
            raise ConfigurationError(event["error"]) if event.get(SETUP) else self._failure(event["error"])
        if not event[REFS]:
            # A trigger of before an upgrade says no `since`.
            since = event.get(SINCE)
            self._remember(context, event["seen"], since)
            self._wait(event["seen"], since, started=started)
        return self._result(context, event)

    def _result(self, context: Context, event: dict[str, Any]) -> Any:
        """What the task gives: the changes. For subclasses that need more of the event, `since` among it."""
        del context
        return event[REFS]

    def _wait(self, known: dict[str, str], since: str | None, *, started: float) -> None:
        left = started + self.timeout - time.time()
        if left <= 0:
            raise AirflowSensorTimeout(f"no {self.awaited} within {self.timeout:g} s")
        self.defer(
            trigger=self._armed(known, since),
            method_name="looked",
            kwargs={"started": started},
            timeout=timedelta(seconds=left),
        )

    def _armed(self, known: dict[str, str], since: str | None) -> PollTrigger:
        """The trigger, with what webhooks told."""
        trigger = self._trigger(known, since)
        trigger.told = self.told_in
        return trigger

    def _known(self, context: Context) -> dict[str, str]:
        """What counts as old: as told, as an earlier try saw it, else as it is now."""
        stored = context["task_state_store"].get(self.state_key)
        if isinstance(stored, dict):
            # Before there was `since`, the refs were all there was.
            refs = stored.get(REFS)
            return cast("dict[str, str]", refs if isinstance(refs, dict) else stored)
        began, told = _now(), self._told()
        known = self._look() if told is None else told
        self._remember(context, known, began if told is None else None)
        return known

    def _told(self) -> dict[str, str] | None:
        """What the Dag says is known, in the form that a look has."""
        return self.known

    def _since(self, context: Context) -> str | None:
        """When the last look began that found nothing new or moved; None where none is remembered."""
        stored = context["task_state_store"].get(self.state_key)
        since = stored.get(SINCE) if isinstance(stored, dict) and isinstance(stored.get(REFS), dict) else None
        return cast("str | None", since)

    def _remember(self, context: Context, refs: dict[str, str], since: str | None) -> None:
        """Keep it for a retry. Not done for what the result tells of: a retry must find that once more."""
        context["task_state_store"].set(self.state_key, cast("JsonValue", {REFS: refs, SINCE: since}))

    def _look(self) -> dict[str, str]:
        """What is there now, key to value."""
        return self._trigger({}, None).look()

    def _pause(self) -> float:
        return self._usual_pause() if self.poll_seconds is None else self.poll_seconds


def _now() -> str:
    return datetime.now(UTC).isoformat()
