"""Folder of one job on a worker: named after the job, locked while in use, removed when the job ends.

A killed job can't clean up. The kernel releases its lock, and the worker's next job removes unlocked folders.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from typing import TYPE_CHECKING

from delivery_chain.errors import ToolError
from delivery_chain.tools.leftovers import remove_leftovers
from delivery_chain.tools.removal import remove
from delivery_chain.tools.work_folder import lock, usable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@contextlib.contextmanager
def job_folder(work_folder: Path, job: str, *, log: Callable[[str], None]) -> Iterator[Path]:
    """Remove leftovers of killed jobs, then yield an empty folder owned by this process until the block ends.

    Args:
        work_folder: The setting.
        job: Name of the job, the same for all its tries. If a process of an earlier try is still alive, the
            folder gets a number as a suffix.
        log: Called with what was removed, and what could not be.

    Raises:
        ConfigurationError: The work folder can't be used. Not retryable.
        DiskFull: No room. Retryable.
    """
    jobs = remove_leftovers(work_folder, log=log)
    with usable(work_folder):
        folder, held = _locked_new(jobs, job)
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError, ToolError):
            remove(folder)
        os.close(held)


def _locked_new(jobs: Path, job: str) -> tuple[Path, int]:
    for number in itertools.count(1):
        folder = jobs / (job if number == 1 else f"{job}~{number}")
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            folder.mkdir(mode=0o700)
            held = lock(folder)
            if held is not None:
                return folder, held
            # Another job removed the folder before it was locked.
    raise AssertionError
