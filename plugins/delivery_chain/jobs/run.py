"""Runs a job on this machine, by its kind."""

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
"""Kind of a job to the module whose `run` does it."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine that a job runs on."""

    folder: Path
    """The job's own, empty, removed after it."""
    option: Callable[[str, str], str | None]
    """Section and option to what this machine's configuration says, None where it says nothing."""


def run(job: Job, logins: Logins, machine: Machine, log: Callable[[str], None]) -> Done:
    """Do the job.

    Args:
        job: The job.
        logins: Of every connection that the job names.
        machine: Where it runs.
        log: Gets each line, credentials masked.

    Raises:
        DeliveryChainError: As the job's kind says; whether a retry helps is in the error.
    """
    done: Done = import_module(KINDS[job.kind]).run(job, logins, machine, log)
    return done
