"""Base of the sensors that wait until a ref or tag is new or moved, in the triggerer or on a worker."""

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
    """Waits until a poll finds a key (a ref or tag) that is new, or whose value differs from the known one.

    A deleted key does not end the wait, and counts as new when it reappears. The known keys are kept in the task's
    state, so that a retry misses nothing: `{"refs": {key: value, …}, "since": time}`. See `PollTrigger` for `since`.
    """

    state_key: ClassVar[str]
    """Key of the task's state under which the known keys are kept."""
    awaited: ClassVar[str]
    """Name of the awaited thing, for the timeout's message."""
    told_in: str | None = None
    """Airflow Variable with the moves that webhooks reported, for chains' own watches; see `PollTrigger`."""
    ui_color = "#e2ecf7"

    def __init__(
        self,
        *,
        known: dict[str, str] | None = None,
        poll_seconds: float | None = None,
        deferrable: bool = True,
        **kwargs: Any,
    ) -> None:
        """Store the arguments; no I/O.

        Args:
            known: Maps known keys to their values; None for the state at the start of the first try.
            poll_seconds: Seconds between two polls; None for the installation's setting.
            deferrable: Whether to wait in the triggerer, which takes no worker slot.
            **kwargs: Arguments of BaseSensorOperator: `timeout` (seconds), `soft_fail`, `mode`, …
        """
        super().__init__(**kwargs)
        self.known = known
        self.poll_seconds = poll_seconds
        self.deferrable = deferrable

    @abstractmethod
    def _trigger(self, known: dict[str, str], since: str | None) -> PollTrigger:
        """The trigger, which polls both in this process and in the triggerer."""

    @abstractmethod
    def _failure(self, message: str) -> Exception:
        """The error for a failure that the trigger could not resolve by waiting. Not retryable."""

    @abstractmethod
    def _usual_pause(self) -> float:
        """Default seconds between two polls."""

    def execute(self, context: Context) -> Any:
        """Wait; see the class.

        Raises:
            AirflowSensorTimeout: Nothing changed within `timeout`.
            DeliveryChainError: The poll failed. The error's class says whether a retry helps.
        """
        if not self.deferrable:
            self.poke_interval = self._pause()
            return super().execute(context)
        known = self._known(context)
        return self._wait(known, self._since(context), started=time.time())

    def poke(self, context: Context) -> PokeReturnValue:
        """Poll once; deleted keys are dropped from the known ones, so that they count as new when they reappear."""
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
        """Resume with the trigger's event: return the result, or defer again if keys were only deleted.

        Args:
            context: Airflow's context.
            event: See `PollTrigger`.
            started: Start of the wait, in seconds since 1970.

        Raises:
            DeliveryChainError: Waiting can't fix the failure. Not retryable.
        """
        if "error" in event:
            raise ConfigurationError(event["error"]) if event.get(SETUP) else self._failure(event["error"])
        if not event[REFS]:
            # The event of a trigger from before an upgrade has no `since`.
            since = event.get(SINCE)
            self._remember(context, event["seen"], since)
            self._wait(event["seen"], since, started=started)
        return self._result(context, event)

    def _result(self, context: Context, event: dict[str, Any]) -> Any:
        """The task's result: the changes. Subclasses override it to use more of the event, such as `since`."""
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
        """The trigger, with the Variable of reported moves."""
        trigger = self._trigger(known, since)
        trigger.told = self.told_in
        return trigger

    def _known(self, context: Context) -> dict[str, str]:
        """The known keys: those of an earlier try, or else those given in the Dag, or else the current ones."""
        stored = context["task_state_store"].get(self.state_key)
        if isinstance(stored, dict):
            # Older versions stored the refs alone.
            refs = stored.get(REFS)
            return cast("dict[str, str]", refs if isinstance(refs, dict) else stored)
        began, given = _now(), self._given()
        known = self._look() if given is None else given
        self._remember(context, known, began if given is None else None)
        return known

    def _given(self) -> dict[str, str] | None:
        """The argument `known`, in the form that a poll returns."""
        return self.known

    def _since(self, context: Context) -> str | None:
        """Start of the last poll that found nothing new or moved; None if not stored."""
        stored = context["task_state_store"].get(self.state_key)
        since = stored.get(SINCE) if isinstance(stored, dict) and isinstance(stored.get(REFS), dict) else None
        return cast("str | None", since)

    def _remember(self, context: Context, refs: dict[str, str], since: str | None) -> None:
        """Store the known keys for a retry, without the changes of the result, which a retry must find again."""
        context["task_state_store"].set(self.state_key, cast("JsonValue", {REFS: refs, SINCE: since}))

    def _look(self) -> dict[str, str]:
        """The current keys and values."""
        return self._trigger({}, None).look()

    def _pause(self) -> float:
        return self._usual_pause() if self.poll_seconds is None else self.poll_seconds


def _now() -> str:
    return datetime.now(UTC).isoformat()
