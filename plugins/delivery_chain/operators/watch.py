"""Watching one place: what is there that was not, and where what was seen last is kept."""

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
"""Key of what a first look found, in what `watch` gives."""


def _read(key: str) -> str | None:
    # Not at the top: a parse of a Dag file imports this module, and asks for no Variable.
    from delivery_chain.hooks.absence import read_variable

    return read_variable(key)


class Cursor:
    """What a watching Dag has seen, in an Airflow Variable: `{"looked": time, "refs": {ref: commit}}`."""

    def __init__(self, key: str) -> None:
        self.key = key

    def read(self) -> tuple[str, dict[str, str]] | None:
        """When the look at it began, and what was seen; None before the first look.

        Raises:
            ConfigurationError: Somebody made it unreadable by hand. Not retryable.
            AirflowUnreachable: Airflow did not say whether there is one. Retryable.
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
                "else; correct it, or remove it: the next look is then a first one, which starts nothing"
            ) from None

    def write(self, looked: str, refs: Mapping[str, str]) -> None:
        """Remember."""
        Variable.set(
            self.key,
            json.dumps({"looked": looked, "refs": refs}, sort_keys=True),
            description="What a delivery chain's sensor has seen",
        )


class OverOperator(ChainOperator):
    """Ends the last run of a Dag that no chain needs any more, whatever its `watch` was about."""

    def execute(self, context: Context) -> None:
        """Look at nothing.

        Raises:
            AirflowSkipException: Always.
        """
        del context
        raise skip("no chain in force takes anything from there")

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> None:
        """The same, for a wait that is over.

        Raises:
            AirflowSkipException: Always.
        """
        del next_method, next_kwargs
        self.execute(context)


class _Watching(RefSensor):
    """A sensor whose knowledge is the cursor, which a later task moves on once the runs were started.

    Its result is `{"changes": [{"ref", "commit", "previous"}, …], "gone": [ref, …], "since": time, "looked": time}`,
    see `PollTrigger` for the times. That of the first look of all has no changes, and `first` with what is there.
    """

    def __init__(self, *, cursor: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cursor = cursor
        self.told_in = told_key(cursor)

    def execute(self, context: Context) -> Any:
        """Wait for a change; the first look waits for nothing, nor does one that finds a change at once.

        Raises:
            DeliveryChainError: The look failed. Its class says whether it is retryable.
        """
        if Cursor(self.cursor).read() is not None:
            event = self._at_once(context)
            return self.looked(context, event, time.time()) if event else super().execute(context)
        looked = datetime.now(UTC).isoformat()
        found = self._look()
        self.log.info("First look: %d are known from now on", len(found))
        return {"changes": [], "gone": [], "since": None, "looked": looked, FIRST: found}

    def looked(self, context: Context, event: dict[str, Any], started: float) -> Any:
        """Take the trigger's event; that no chain needs this is not true any more where it is this Dag's.

        Raises:
            DeliveryChainError: What waiting cannot mend. Not retryable.
        """
        if OVER in event:
            return self.execute(context)
        return super().looked(context, event, started)

    def _at_once(self, context: Context) -> dict[str, Any] | None:
        """What came while the last changes were taken; None for nothing, or where what is asked does not answer now.

        A trigger that finds it would fire before a busy scheduler has seen that this task is deferred. Airflow then
        takes the task for one that somebody ended, and again at each retry, for it is there at each.
        Source: `SchedulerJobRunner.process_executor_events`, which spares such a task until it is queued, not after.
        """
        try:
            return self._armed(self._known(context), self._since(context)).event()
        except DeliveryChainError as error:
            # The triggerer asks again, ever less often, and says what can't be mended so.
            self.log.info("Nothing was seen yet: %s", error)
            return None

    def _known(self, context: Context) -> dict[str, str]:
        del context
        known = Cursor(self.cursor).read()
        # Somebody removed the Variable while the Dag waited.
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
    """Waits until a git source has other refs than the cursor knows."""


class WatchImagesOperator(_Watching, ImageTagSensor):
    """Waits until a registry has other image tags than the cursor knows; `ref` is `repository:tag`."""

    def _change(self, change: dict[str, Any]) -> dict[str, Any]:
        ref = f"{change['name']}:{change['tag']}"
        return {"ref": ref, "commit": change["digest"], "previous": change["previous"]}


def told_of(cursor: str) -> Told:
    """Moves that webhooks reported of the place that a cursor is of."""
    return Told.read(_read(told_key(cursor)))
