"""Remove leftovers of killed jobs: folders in the work folder that no process has locked."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

from delivery_chain.errors import ToolError
from delivery_chain.tools.removal import remove
from delivery_chain.tools.work_folder import home, lock, usable

if TYPE_CHECKING:
    from collections.abc import Callable

REMOVAL_SECONDS = 120.0
"""Time limit for one job to remove leftovers; the next job continues."""


def remove_leftovers(
    work_folder: Path, *, log: Callable[[str], None], seconds: float = REMOVAL_SECONDS
) -> Path:
    """Remove the folders of jobs whose processes have died; what can't be removed stays for the next job.

    Returns:
        The folder of this user's jobs.

    Raises:
        ConfigurationError: The work folder can't be used. Not retryable.
        DiskFull: No room. Retryable.
    """
    with usable(work_folder):
        jobs = home(work_folder) / "jobs"
        jobs.mkdir(mode=0o700, exist_ok=True)
        found = sorted(os.scandir(jobs), key=lambda entry: entry.name)
    until = time.monotonic() + seconds
    for entry in found:
        left = until - time.monotonic()
        try:
            if left > 0 and _removed(Path(entry.path), left):
                log(f"removed leftovers of a killed job: {entry.path}")
        except (OSError, ToolError) as error:
            log(
                f"leftovers of a killed job could not be removed, the next job tries again: {entry.path}: {error}"
            )
    return jobs


def _removed(folder: Path, seconds: float) -> bool:
    """Remove one entry, unless a job is using it, or it belongs to another user."""
    about = folder.lstat()
    if about.st_uid != os.geteuid():
        return False
    if not stat.S_ISDIR(about.st_mode):
        folder.unlink(missing_ok=True)
        return True
    try:
        held = lock(folder)
    except FileNotFoundError:
        return False
    if held is None:
        return False
    try:
        remove(folder, seconds=seconds)
    finally:
        os.close(held)
    return True
