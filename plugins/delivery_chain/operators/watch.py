"""Watch one source or registry for changes, with a cursor for what was last seen."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import Variable

from delivery_chain.core.events.history import Told, utc
from delivery_chain.core.events.watch_dags import OVER, told_key
from delivery_chain.errors import ConfigurationError, DeliveryChainError
from delivery_chain.operators.base import ChainOperator, skip
from delivery_chain.sensors.base import RefSensor
from delivery_chain.sensors.git_ref import GitRefSensor
from delivery_chain.sensors.image_tag import ImageTagSensor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context

FIRST = "first"
"""Key of the refs that a first poll found, in the result of `watch`."""


def _read(key: str) -> str | None:
    # Imported late, because parsing a Dag file imports this module but needs no Variable.
    from delivery_chain.hooks.absence import read_variable

    return read_variable(key)


class Cursor:
    """The refs that a watching Dag has seen, kept in an Airflow Variable: `{"looked": time, "refs": {ref: commit}}`."""

    def __init__(self, key: str) -> None:
        self.key = key

    def read(self) -> tuple[str, dict[str, str]] | None:
        """Return when the last poll began, and what it saw; None before the first poll.

        Raises:
            ConfigurationError: The Variable was edited by hand and is unreadable. Not retryable.
            AirflowUnreachable: It is unknown whether the Variable exists. Retryable.
        """
        text = _read(self.key)
        if text is None:
            return None
        try:
            found = json.loads(text)
            return utc(found["looked"]).isoformat(), dict(found["refs"])
        except (ValueError, TypeError, KeyError):
            raise ConfigurationError(
                f'Variable {self.key}: expected {{"looked": time, "refs": {{ref: commit}}}}, found something '
                "else; correct it or remove it: the next poll then counts as the first, which starts no runs"
            ) from None

    def write(self, looked: str, refs: Mapping[str, str]) -> None:
        """Store the time and the refs of a poll."""
        Variable.set(
            self.key,
            json.dumps({"looked": looked, "refs": refs}, sort_keys=True),
            description="What a delivery chain's sensor has seen",
        )


class OverOperator(ChainOperator):
    """Stands in for `watch` in a Dag that no chain needs any more, to end its last run."""

    def execute(self, context: Context) -> None:
        """Skip without polling.

        Raises:
            AirflowSkipException: Always.
        """
        del context
        raise skip("no chain in force takes anything from there")

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> None:
        """Skip likewise when a deferred `watch` resumes.

        Raises:
            AirflowSkipException: Always.
        """
        del next_method, next_kwargs
        self.execute(context)


class _Watching(RefSensor):
    """Sensor that compares with the cursor, which a later task moves once the runs are started.

    Its result is `{"changes": [{"ref", "commit", "previous"}, …], "gone": [ref, …], "since": time, "looked": time}`,
    see `PollTrigger` for the times. The result of the very first poll has no changes, and lists all refs under `first`.
    """

    def __init__(self, *, cursor: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cursor = cursor
        self.told_in = told_key(cursor)

    def execute(self, context: Context) -> Any:
        """Wait for a change. Without a cursor, or if there is a change already, return at once.

        Raises:
            DeliveryChainError: The poll failed. The error's class says whether a retry helps.
        """
        if Cursor(self.cursor).read() is not None:
            event = self._at_once(context)
            return self.looked(context, event, time.time()) if event else super().execute(context)
        looked = datetime.now(UTC).isoformat()
        found = self._look()
        self.log.info("First poll: %d refs are known from now on", len(found))
        return {"changes": [], "gone": [], "since": None, "looked": looked, FIRST: found}

    def looked(self, context: Context, event: dict[str, Any], started: float) -> Any:
        """Process the trigger's event.

        If the trigger ended because no chain needed this watch, but a chain does again by now, poll again.

        Raises:
            DeliveryChainError: Waiting can't fix the error. Not retryable.
        """
        if OVER in event:
            return self.execute(context)
        return super().looked(context, event, started)

    def _at_once(self, context: Context) -> dict[str, Any] | None:
        """Return what changed while the last changes were processed; None without a change, or if the poll fails.

        A trigger that finds a change in its first poll may fire before a busy scheduler has seen that this task is
        deferred. Airflow would then take the task for killed, and every retry as well, since each finds the change.
        Source: `SchedulerJobRunner.process_executor_events`, which spares such a task until it is queued, not after.
        """
        try:
            return self._armed(self._known(context), self._since(context)).event()
        except DeliveryChainError as error:
            # The triggerer polls again with backoff, and reports errors that this can't fix.
            self.log.info("The poll failed, the triggerer tries again: %s", error)
            return None

    def _known(self, context: Context) -> dict[str, str]:
        del context
        known = Cursor(self.cursor).read()
        # Without a cursor here, the Variable was removed while the Dag waited.
        return known[1] if known else {}

    def _since(self, context: Context) -> str | None:
        del context
        known = Cursor(self.cursor).read()
        return known[0] if known else None

    def _result(self, context: Context, event: dict[str, Any]) -> Any:
        known = self._known(context)
        changes = [self._change(change) for change in event["refs"]]
        times = {key: event.get(key) for key in ("since", "looked")}
        return {"changes": changes, "gone": sorted(known.keys() - event["seen"].keys()), **times}

    def _change(self, change: dict[str, Any]) -> dict[str, Any]:
        return change


class WatchOperator(_Watching, GitRefSensor):
    """Wait until a git source has other refs than the cursor."""


class WatchImagesOperator(_Watching, ImageTagSensor):
    """Wait until a registry has other image tags than the cursor; `ref` is `repository:tag`."""

    def _change(self, change: dict[str, Any]) -> dict[str, Any]:
        ref = f"{change['name']}:{change['tag']}"
        return {"ref": ref, "commit": change["digest"], "previous": change["previous"]}


def told_of(cursor: str) -> Told:
    """Return the moves that webhooks reported for the source or registry of a cursor."""
    return Told.read(_read(told_key(cursor)))
