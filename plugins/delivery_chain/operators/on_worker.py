"""Run a step's work on the worker itself. The work stops when Airflow kills the task, and leaves nothing behind."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from delivery_chain.core.names.tags import run_key
from delivery_chain.operators.base import ChainOperator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow.sdk import Context


REMOVAL_SECONDS = 20.0
"""Maximum seconds that a step without a folder spends on cleaning up after killed jobs."""


class WorkerOperator(ChainOperator):
    """Step that starts programs or runs for long: `on_kill` ends it within the 5 s that Airflow allows."""

    @contextlib.contextmanager
    def stoppable(self) -> Iterator[None]:
        """Enter a block that `on_kill` interrupts, for work without a folder; first remove leftovers of killed jobs.

        Raises:
            TaskStopped: `on_kill` interrupted the block. Retryable.
        """
        from delivery_chain.errors import ConfigurationError, DiskFull
        from delivery_chain.settings import Settings
        from delivery_chain.tools.leftovers import remove_leftovers
        from delivery_chain.tools.stopping import stoppable

        try:
            remove_leftovers(Settings.load().work_folder, log=self.log.info, seconds=REMOVAL_SECONDS)
        except (ConfigurationError, DiskFull) as error:
            self.log.info("could not clean up after killed jobs: %s", error)
        with stoppable():
            yield

    @contextlib.contextmanager
    def folder(self, context: Context) -> Iterator[Path]:
        """Enter a block with a folder for this task on this worker. The folder is removed when the block ends.

        Raises:
            TaskStopped: `on_kill` interrupted the block. Retryable.
            ConfigurationError: The work folder can't be used. Not retryable.
            DiskFull: The disk is full. Retryable.
        """
        from delivery_chain.settings import Settings
        from delivery_chain.tools.job_folder import job_folder
        from delivery_chain.tools.stopping import stoppable

        ti = context["ti"]
        slot = "" if ti.map_index is None or ti.map_index < 0 else f"-{ti.map_index}"
        # The name is the same for every try of the task.
        job = f"{run_key(ti.dag_id, ti.run_id)}-{ti.task_id}{slot}"
        with (
            job_folder(Settings.load().work_folder, job, log=self.log.info) as folder,
            stoppable(),
        ):
            yield folder

    def on_kill(self) -> None:
        """Stop the work. Airflow calls this in the main thread, in the middle of `execute`."""
        from delivery_chain.tools.stopping import stop

        stop()
