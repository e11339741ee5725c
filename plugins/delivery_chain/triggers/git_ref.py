"""Waits in the triggerer until a git source has other refs than those that are known."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from delivery_chain.core.refs import changes, gone, matching
from delivery_chain.errors import DeliveryChainError
from delivery_chain.retry import delay_after

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

LOOK_TIME = 60.0
"""Seconds that one look at a source may take."""


class GitRefTrigger(BaseTrigger):
    """Fires once, as soon as the branches and tags that match differ from the known ones.

    The event is `{"refs": [{"ref", "commit", "previous"}, …], "gone": [ref, …], "seen": {ref: commit, …}}`,
    or `{"error": message}` for what waiting cannot mend. A source that does not answer is asked again, ever
    less often, at least each five minutes.
    """

    def __init__(
        self,
        connection: str,
        url: str = "",
        *,
        branches: str | None = None,
        tags: str | None = None,
        known: dict[str, str] | None = None,
        poll_seconds: float = 30.0,
    ) -> None:
        """Look at nothing yet.

        Args:
            connection: Airflow connection of type git.
            url: Relative to the connection's URL, or empty for that URL.
            branches: Name or regular expression for whole names; None for no branch.
            tags: The same for tags. With both None, every branch and tag counts.
            known: Full ref name to commit; None makes the first look the event, with every ref as a new one.
            poll_seconds: Time between two looks.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.connection = connection
        self.url = url
        self.branches = branches
        self.tags = tags
        self.known = known
        self.poll_seconds = poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments, from which Airflow makes the trigger again."""
        names = ("connection", "url", "branches", "tags", "known", "poll_seconds")
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            name: getattr(self, name) for name in names
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look, wait, and look again until there is something to say."""
        failures = 0
        while True:
            try:
                # In a thread: git is a process, and Airflow's own calls (connection, secrets) block too.
                seen = await asyncio.to_thread(self.look)
            except DeliveryChainError as error:
                if not error.retryable:
                    yield TriggerEvent({"error": str(error)})  # type: ignore[no-untyped-call]
                    return
                failures += 1
                delay = delay_after(failures, error.retry_after)
                self.log.warning(
                    "%s (look %s in a row that failed; the next in %g s)", error, failures, delay
                )
                await asyncio.sleep(delay)
                continue
            failures = 0
            if self.known is None or seen != self.known:
                yield TriggerEvent(event(self.known or {}, seen))  # type: ignore[no-untyped-call]
                return
            await asyncio.sleep(self.poll_seconds)

    def look(self) -> dict[str, str]:
        """The refs that match, now. Blocks.

        Raises:
            ConfigurationError: The connection or a pattern is wrong. Not retryable.
            SourceError: Git refuses. Retryable where it is a SourceUnreachable.
        """
        return look(self.connection, self.url, self.branches, self.tags)


def look(connection: str, url: str, branches: str | None, tags: str | None) -> dict[str, str]:
    """The refs of a source that match: full name to commit.

    The connection is read each time, so that a new token counts at once.

    Raises:
        ConfigurationError: The connection or a pattern is wrong. Not retryable.
        SourceError: Git refuses. Retryable where it is a SourceUnreachable.
    """
    from delivery_chain.hooks.git import GitSourceHook  # noqa: PLC0415 - not for a Dag parse
    from delivery_chain.settings import Settings  # noqa: PLC0415
    from delivery_chain.tools.git import list_refs  # noqa: PLC0415

    source = GitSourceHook(connection, Settings.load().git_transports).source(url)
    return matching(list_refs(source, deadline=time.monotonic() + LOOK_TIME), branches, tags)


def event(known: dict[str, str], seen: dict[str, str]) -> dict[str, Any]:
    """The event's payload, see `GitRefTrigger`."""
    return {
        "refs": [change.to_dict() for change in changes(known, seen)],
        "gone": list(gone(known, seen)),
        "seen": seen,
    }
