"""Runs a job in the current process, in its own locked folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.errors import DeliveryChainError, JobLost
from delivery_chain.jobs.failure import failure_of
from delivery_chain.jobs.run import Machine, run
from delivery_chain.runners.interface import Handle
from delivery_chain.settings import Settings, airflow_option
from delivery_chain.tools.job_folder import job_folder
from delivery_chain.tools.stopping import stop, stoppable

if TYPE_CHECKING:
    from collections.abc import Callable

    from delivery_chain.jobs.failure import Failure
    from delivery_chain.jobs.job import Done, Job
    from delivery_chain.jobs.logins import Logins


class LocalRunner:
    """The `Runner` for a worker without containers: `watch` itself runs the job, which ends with this process."""

    def __init__(self) -> None:
        self._jobs: dict[str, tuple[Job, Logins]] = {}

    def submit(self, job: Job, logins: Logins, key: str) -> Handle:
        """Record a job, see `Runner.submit`."""
        self._jobs.setdefault(key, (job, logins))
        return Handle(key)

    def watch(self, handle: Handle, log: Callable[[str], None]) -> Done | Failure:
        """Run the job, see `Runner.watch`. An exception that is no DeliveryChainError is a bug, and propagates."""
        try:
            if handle.key not in self._jobs:
                raise JobLost(
                    f"job {handle.key}: the process that ran it no longer exists; a retry starts it again"
                )
            job, logins = self._jobs.pop(handle.key)
            with job_folder(Settings.load().work_folder, handle.key, log=log) as folder, stoppable():
                return run(job, logins, Machine(folder, airflow_option), log)
        except DeliveryChainError as error:
            return failure_of(error)

    def cancel(self, handle: Handle) -> None:
        """Abort the job if it runs in this thread, and drop it if it has not started."""
        if self._jobs.pop(handle.key, None) is None:
            stop()
