"""Waits in the triggerer until a git source's refs differ from the known ones."""

from __future__ import annotations

import time
from typing import Any, ClassVar

from delivery_chain.core.events.refs import difference, matching
from delivery_chain.triggers.base import PollTrigger

LOOK_TIME = 60.0
"""Time limit in seconds of one poll of a source."""


class GitRefTrigger(PollTrigger):
    """Fires once, as soon as the matching branches and tags differ from the known ones.

    The event is `{"refs": [{"ref", "commit", "previous"}, …], "gone": [ref, …], "seen": {ref: commit, …},
    "since": time}`, or `{"error": message}`; see `PollTrigger`.
    """

    arguments: ClassVar[tuple[str, ...]] = ("connection", "url", "branches", "tags")

    def __init__(
        self,
        connection: str,
        url: str = "",
        *,
        branches: str | None = None,
        tags: str | None = None,
        known: dict[str, str] | None = None,
        poll_seconds: float = 30.0,
        since: str | None = None,
        told: str | None = None,
    ) -> None:
        """Store the arguments; no I/O.

        Args:
            connection: Airflow connection of type git.
            url: URL relative to the connection's, or empty for the connection's own URL.
            branches: A branch's name, or a regular expression for whole names; None for no branch.
            tags: The same for tags. If both are None, every branch and tag counts.
            known: Maps full ref names to commits; None to fire at the first poll, with every ref as new.
            poll_seconds: Seconds between two polls.
            since: See `PollTrigger`.
            told: See `PollTrigger`.
        """
        super().__init__(known=known, poll_seconds=poll_seconds, since=since, told=told)
        self.connection = connection
        self.url = url
        self.branches = branches
        self.tags = tags

    def look(self) -> dict[str, str]:
        """The refs that match now. Blocks.

        Raises:
            ConfigurationError: The connection or a pattern is wrong. Not retryable.
            SourceError: Git failed. Retryable if it is a SourceUnreachable.
        """
        return look(self.connection, self.url, self.branches, self.tags)

    def difference(self, known: dict[str, str], seen: dict[str, str]) -> dict[str, Any]:
        """Compare two listings, see `delivery_chain.core.events.refs.difference`."""
        return difference(known, seen)


def look(connection: str, url: str, branches: str | None, tags: str | None) -> dict[str, str]:
    """Map the full names of a source's matching refs to their commits.

    The connection is read each time, so that a new token takes effect at once.

    Raises:
        ConfigurationError: The connection or a pattern is wrong. Not retryable.
        SourceError: Git failed. Retryable if it is a SourceUnreachable.
    """
    from delivery_chain.hooks.git import GitSourceHook  # noqa: PLC0415 - not for a Dag parse
    from delivery_chain.settings import Settings  # noqa: PLC0415
    from delivery_chain.tools.git.refs import list_refs  # noqa: PLC0415

    source = GitSourceHook(connection, Settings.load().git_transports).source(url)
    return matching(list_refs(source, deadline=time.monotonic() + LOOK_TIME), branches, tags)
