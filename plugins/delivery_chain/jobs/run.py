"""Runs a job of any kind on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from delivery_chain.jobs.job import Done, Job
    from delivery_chain.jobs.logins import Logins

KINDS = {"build": "delivery_chain.jobs.build", "scan": "delivery_chain.jobs.scan"}
"""Maps each kind of job to the module with its `run`."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine that a job runs on."""

    folder: Path
    """The job's own folder: initially empty, removed afterwards."""
    option: Callable[[str, str], str | None]
    """Looks up an option, by section and name, in this machine's configuration; returns None if not set."""


def run(job: Job, logins: Logins, machine: Machine, log: Callable[[str], None]) -> Done:
    """Run the job.

    Args:
        job: The job.
        logins: One for every connection that the job names.
        machine: The machine to run on.
        log: Called with each line of the log, with credentials masked.

    Raises:
        DeliveryChainError: See `run` of the kind's module; the class says whether to retry.
    """
    done: Done = import_module(KINDS[job.kind]).run(job, logins, machine, log)
    return done
