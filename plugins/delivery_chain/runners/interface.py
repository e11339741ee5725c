"""The runner port: where a job runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from delivery_chain.jobs.failure import Failure
    from delivery_chain.jobs.job import Done, Job
    from delivery_chain.jobs.logins import Logins


@dataclass(frozen=True, slots=True)
class Handle:
    """A job that was submitted. Text that survives the process that submitted it."""

    key: str
    """As it was submitted."""
    id: str = ""
    """The runner's own name of the job, such as a container's; empty where the key is enough."""


class Runner(Protocol):
    """Runs jobs somewhere, and hands back their results."""

    def submit(self, job: Job, logins: Logins, key: str) -> Handle:
        """Start a job, or find the one that was started under the same key.

        Args:
            job: The job.
            logins: Of every connection that it names.
            key: Same for every try of a task, and for no other task; at most 200 of `a-z A-Z 0-9 - _ .`.

        Raises:
            ConfigurationError: The runner can't run here. Not retryable.
        """

    def watch(self, handle: Handle, log: Callable[[str], None]) -> Done | Failure:
        """Wait for a job's end, also after the process that submitted it died; a lost job is a Failure of JobLost.

        Args:
            handle: From `submit`.
            log: Gets the job's lines as they come, credentials masked.
        """

    def cancel(self, handle: Handle) -> None:
        """End a job and remove what it left. For `on_kill`: returns, or raises, within 5 seconds."""
