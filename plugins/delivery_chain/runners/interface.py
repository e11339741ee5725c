"""Defines the interface of runners, which decide where a job runs."""

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
    """A submitted job. Serializable, so that it outlives the process that submitted it."""

    key: str
    """The job as submitted."""
    id: str = ""
    """The runner's own name for the job, such as a container's; empty if the key suffices."""


class Runner(Protocol):
    """Runs jobs, here or elsewhere, and returns their results."""

    def submit(self, job: Job, logins: Logins, key: str) -> Handle:
        """Start a job, or reconnect to the one started under the same key.

        Args:
            job: The job.
            logins: Logins for every connection that the job names.
            key: The same for every try of a task, and unique to the task; at most 200 of `a-z A-Z 0-9 - _ .`.

        Raises:
            ConfigurationError: The runner does not work here. Not retryable.
        """

    def watch(self, handle: Handle, log: Callable[[str], None]) -> Done | Failure:
        """Wait for a job to finish, even if its submitter died. For a lost job, return a Failure of class JobLost.

        Args:
            handle: From `submit`.
            log: Called with each line of the job's log as it arrives, with credentials masked.
        """

    def cancel(self, handle: Handle) -> None:
        """Stop a job and clean up after it. For `on_kill`: returns, or raises, within 5 seconds."""
