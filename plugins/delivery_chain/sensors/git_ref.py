"""A sensor on the branches and tags of a git source, for any Dag."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk import BaseSensorOperator, PokeReturnValue
from airflow.sdk.exceptions import AirflowSensorTimeout

from delivery_chain.core.refs import changes
from delivery_chain.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context
    from pydantic import JsonValue

STATE_KEY = "git_refs"
"""Where the task's state keeps the refs known so far, so that a retry misses no push."""


class GitRefSensor(BaseSensorOperator):
    """Waits until a branch or tag that matches is new or moved.

    Its result is a list of `{"ref", "commit", "previous"}` in natural order; `previous` is None for a
    new ref. A ref that was deleted ends no wait.
    """

    template_fields: Sequence[str] = ("connection", "url", "branches", "tags")
    ui_color = "#e2ecf7"

    def __init__(
        self,
        *,
        connection: str,
        url: str = "",
        branches: str | None = None,
        tags: str | None = None,
        known: dict[str, str] | None = None,
        poll_seconds: float | None = None,
        deferrable: bool = True,
        **kwargs: Any,
    ) -> None:
        """Look at nothing yet.

        Args:
            connection: Airflow connection of type git.
            url: Relative to the connection's URL, or empty for that URL.
            branches: Name or regular expression for whole names; None for no branch.
            tags: The same for tags. With both None, every branch and tag counts.
            known: Full ref name to commit; None for what is there when the first try starts.
            poll_seconds: Time between two looks; None for `[delivery_chain] git_poll_seconds`.
            deferrable: Wait in the triggerer, without a worker's slot.
            **kwargs: For BaseSensorOperator: `timeout` (seconds), `soft_fail`, `mode`, …
        """
        super().__init__(**kwargs)
        self.connection = connection
        self.url = url
        self.branches = branches
        self.tags = tags
        self.known = known
        self.poll_seconds = poll_seconds
        self.deferrable = deferrable

    def execute(self, context: Context) -> Any:
        """Wait; see the class.

        Raises:
            AirflowSensorTimeout: Nothing came within `timeout`.
            ConfigurationError: The connection or a pattern is wrong. Not retryable.
            SourceError: Git refuses. Retryable where it is a SourceUnreachable.
        """
        if not self.deferrable:
            self.poke_interval = self._pause()
            return super().execute(context)
        known = self._known(context)
        return self._wait(known, started=time.time())

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once; deleted refs are forgotten, so that one that comes back counts as new."""
        known = self._known(context)
        seen = self._look()
        found = changes(known, seen)
        if not found and seen != known:
            _remember(context, seen)
        return PokeReturnValue(bool(found), [change.to_dict() for change in found] or None)

    def looked(self, context: Context, event: dict[str, Any], started: float) -> list[dict[str, str | None]]:
        """Take the trigger's event: the result, or on to the next wait where refs only went away.

        Args:
            context: Airflow's.
            event: See `GitRefTrigger`.
            started: When the wait began, seconds since 1970.

        Raises:
            SourceError: What waiting cannot mend. Not retryable.
        """
        if "error" in event:
            raise SourceError(event["error"], tool="git")
        if not event["refs"]:
            _remember(context, event["seen"])
            self._wait(event["seen"], started=started)
        return event["refs"]  # type: ignore[no-any-return]

    def _wait(self, known: dict[str, str], *, started: float) -> None:
        from delivery_chain.triggers.git_ref import GitRefTrigger  # noqa: PLC0415 - not for a Dag parse

        left = started + self.timeout - time.time()
        if left <= 0:
            raise AirflowSensorTimeout(f"no new branch or tag within {self.timeout:g} s")
        self.defer(
            trigger=GitRefTrigger(
                self.connection,
                self.url,
                branches=self.branches,
                tags=self.tags,
                known=known,
                poll_seconds=self._pause(),
            ),
            method_name="looked",
            kwargs={"started": started},
            timeout=timedelta(seconds=left),
        )

    def _known(self, context: Context) -> dict[str, str]:
        """What counts as old: as told, as an earlier try saw it, else as it is now."""
        stored = context["task_state_store"].get(STATE_KEY)
        if isinstance(stored, dict):
            return cast("dict[str, str]", stored)
        known = self._look() if self.known is None else self.known
        _remember(context, known)
        return known

    def _look(self) -> dict[str, str]:
        from delivery_chain.triggers.git_ref import look  # noqa: PLC0415 - not for a Dag parse

        return look(self.connection, self.url, self.branches, self.tags)

    def _pause(self) -> float:
        from delivery_chain.settings import Settings  # noqa: PLC0415 - reads Airflow's configuration

        return Settings.load().git_poll_seconds if self.poll_seconds is None else self.poll_seconds


def _remember(context: Context, refs: dict[str, str]) -> None:
    """Keep the refs for a retry. Not done for the refs of the result: a retry must find them once more."""
    context["task_state_store"].set(STATE_KEY, cast("JsonValue", refs))
