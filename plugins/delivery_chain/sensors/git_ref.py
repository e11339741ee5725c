"""Watches the branches and tags of a git source; a sensor for any Dag."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from delivery_chain.errors import SourceError
from delivery_chain.sensors.base import RefSensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from delivery_chain.triggers.git_ref import GitRefTrigger

STATE_KEY = "git_refs"
"""Key of the task's state for the known refs, which ensure that a retry misses no push."""


class GitRefSensor(RefSensor):
    """Waits until a matching branch or tag is new or moved.

    Its result is a list of `{"ref", "commit", "previous"}` in natural order; `previous` is None for a
    new ref. A deleted ref does not end the wait.
    """

    template_fields: Sequence[str] = ("connection", "url", "branches", "tags")
    state_key: ClassVar[str] = STATE_KEY
    awaited: ClassVar[str] = "new branch or tag"

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
        """Store the arguments; no I/O.

        Args:
            connection: Airflow connection of type git.
            url: URL relative to the connection's, or empty for the connection's own URL.
            branches: A branch's name, or a regular expression for whole names; None for no branch.
            tags: The same for tags. If both are None, every branch and tag counts.
            known: Maps full ref names to commits; None for the refs at the start of the first try.
            poll_seconds: Seconds between two polls; None for `[delivery_chain] git_poll_seconds`.
            deferrable: Whether to wait in the triggerer, which takes no worker slot.
            **kwargs: Arguments of BaseSensorOperator: `timeout` (seconds), `soft_fail`, `mode`, …
        """
        super().__init__(known=known, poll_seconds=poll_seconds, deferrable=deferrable, **kwargs)
        self.connection = connection
        self.url = url
        self.branches = branches
        self.tags = tags

    def _trigger(self, known: dict[str, str], since: str | None) -> GitRefTrigger:
        from delivery_chain.triggers.git_ref import GitRefTrigger  # noqa: PLC0415 - not for a Dag parse

        return GitRefTrigger(
            self.connection,
            self.url,
            branches=self.branches,
            tags=self.tags,
            known=known,
            poll_seconds=self._pause(),
            since=since,
        )

    def _failure(self, message: str) -> SourceError:
        return SourceError(message, tool="git")

    def _usual_pause(self) -> float:
        from delivery_chain.settings import Settings  # noqa: PLC0415 - reads Airflow's configuration

        return Settings.load().git_poll_seconds
