"""Run a step's work as a job: created here, executed by a runner, cancelled when Airflow kills the task."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from delivery_chain.core.names.tags import run_key
from delivery_chain.errors import JobFailed
from delivery_chain.operators.base import ChainOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from delivery_chain.jobs.job import Job
    from delivery_chain.operators.task_instance import TaskInstance
    from delivery_chain.runners.interface import Handle, Runner

RUNNER = "local"
D = TypeVar("D")


class JobOperator(ChainOperator):
    """Step that hands jobs to a runner and waits for their results."""

    _running: tuple[Runner, Handle] | None = None

    def run_job(self, context: Context, job: Job, done: type[D], *, part: str = "") -> D:
        """Run a job to completion; its output goes to the task's log.

        Args:
            context: Airflow's task context.
            job: The job.
            done: Type of the result.
            part: Distinguishes the jobs of a task that has several: at most 20 characters of `a-z 0-9`.

        Raises:
            DeliveryChainError: The job failed with this error; TaskStopped if `on_kill` cancelled the job.
        """
        from delivery_chain.hooks.logins import logins_for
        from delivery_chain.jobs.failure import Failure, error_of
        from delivery_chain.runners.table import RUNNERS
        from delivery_chain.settings import Settings

        logins = logins_for(job, Settings.load().git_transports)
        runner = RUNNERS.load(RUNNER)()
        handle = runner.submit(job, logins, job_key(context["ti"], part))
        self._running = runner, handle
        try:
            result = runner.watch(handle, self.log.info)
        finally:
            self._running = None
        if isinstance(result, Failure):
            raise error_of(result)
        if not isinstance(result, done):
            raise JobFailed(f"job {handle.key}: expected a {done.__name__}, found a {type(result).__name__}")
        return result

    def on_kill(self) -> None:
        """Cancel the job. Airflow calls this in the main thread, in the middle of `execute`."""
        if self._running is not None:
            runner, handle = self._running
            runner.cancel(handle)


def job_key(ti: TaskInstance, part: str = "") -> str:
    """Return the name of a task's job, or of one of its jobs. Every try uses the same name."""
    slot = "" if ti.map_index is None or ti.map_index < 0 else f"-{ti.map_index}"
    return f"{run_key(ti.dag_id, ti.run_id)}-{ti.task_id}{slot}{part and '-'}{part}"
