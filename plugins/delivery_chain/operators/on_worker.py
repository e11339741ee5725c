"""Steps that work on the worker itself: they end when Airflow says so, and leave nothing there."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from delivery_chain.core.names.tags import run_key
from delivery_chain.operators.base import ChainOperator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from airflow.sdk import Context


SWEEP_SECONDS = 20.0
"""How long a step that needs no folder may spend on what others left."""


class WorkerOperator(ChainOperator):
    """A step that starts programs, or is long: `on_kill` ends it within the 5 s that Airflow leaves it."""

    @contextlib.contextmanager
    def stoppable(self) -> Iterator[None]:
        """A block that `on_kill` leaves, for work that needs no folder; what killed jobs left is removed first.

        Raises:
            TaskStopped: It was left. Retryable.
        """
        from delivery_chain.errors import ConfigurationError, DiskFull
        from delivery_chain.settings import Settings
        from delivery_chain.tools.job_folder import sweep
        from delivery_chain.tools.stopping import stoppable

        try:
            sweep(Settings.load().work_folder, log=self.log.info, seconds=SWEEP_SECONDS)
        except (ConfigurationError, DiskFull) as error:
            self.log.info("what killed jobs left could not be looked for: %s", error)
        with stoppable():
            yield

    @contextlib.contextmanager
    def folder(self, context: Context) -> Iterator[Path]:
        """The task's folder on this worker, for the time of the block, which `on_kill` leaves.

        Raises:
            TaskStopped: It was left. Retryable.
            ConfigurationError: The work folder can't be used. Not retryable.
            DiskFull: No room. Retryable.
        """
        from delivery_chain.settings import Settings
        from delivery_chain.tools.job_folder import job_folder
        from delivery_chain.tools.stopping import stoppable

        ti = context["ti"]
        slot = "" if ti.map_index is None or ti.map_index < 0 else f"-{ti.map_index}"
        # The same for each try of the task.
        job = f"{run_key(ti.dag_id, ti.run_id)}-{ti.task_id}{slot}"
        with (
            job_folder(Settings.load().work_folder, job, log=self.log.info) as folder,
            stoppable(),
        ):
            yield folder

    def on_kill(self) -> None:
        """End the work. Airflow calls it in the main thread, in the middle of `execute`."""
        from delivery_chain.tools.stopping import stop

        stop()
