"""Defines the runner port, which decides where a job runs."""

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
    """A submitted job. Plain text, so that it outlives the process that submitted it."""

    key: str
    """The job as submitted."""
    id: str = ""
    """The runner's own name for the job, such as a container's; empty if the key suffices."""


class Runner(Protocol):
    """Runs jobs somewhere, and returns their results."""

    def submit(self, job: Job, logins: Logins, key: str) -> Handle:
        """Start a job, or reconnect to the one started under the same key.

        Args:
            job: The job.
            logins: For every connection that it names.
            key: The same for every try of a task, and unique to the task; at most 200 of `a-z A-Z 0-9 - _ .`.

        Raises:
            ConfigurationError: The runner does not work here. Not retryable.
        """

    def watch(self, handle: Handle, log: Callable[[str], None]) -> Done | Failure:
        """Wait for a job to finish, even after its submitter died; a lost job is a Failure of JobLost.

        Args:
            handle: From `submit`.
            log: Gets the job's lines as they arrive, credentials masked.
        """

    def cancel(self, handle: Handle) -> None:
        """Stop a job and clean up after it. For `on_kill`: returns, or raises, within 5 seconds."""
