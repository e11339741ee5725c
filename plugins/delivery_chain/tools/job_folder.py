"""Folder of one job on a worker: named after the job, locked while in use, removed when the job ends.

A killed job can't clean up. The kernel releases its lock, and the worker's next job sweeps unlocked folders.

    <work folder>/<user id>/jobs/<job>          on a local disk
    <work folder>/<user id>-<host>/jobs/<job>   on a network file system, where locks may not be visible across hosts
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import itertools
import os
import socket
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

from delivery_chain.errors import ConfigurationError, DiskFull, ToolError
from delivery_chain.tools.removal import remove

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SWEEP_SECONDS = 120.0
"""Time limit for one job to sweep leftovers; the next job continues."""
_NETWORKS = (
    "9p",
    "ceph",
    "cifs",
    "fuse",
    "gfs",
    "gluster",
    "gpfs",
    "lustre",
    "nfs",
    "ocfs",
    "smb",
    "virtiofs",
)
"""Prefixes of file system types that several machines may share."""


@contextlib.contextmanager
def job_folder(work_folder: Path, job: str, *, log: Callable[[str], None]) -> Iterator[Path]:
    """Sweep leftovers of killed jobs, then yield an empty folder owned by this process until the block ends.

    Args:
        work_folder: The setting.
        job: Name of the job, the same for all its tries. If a process of an earlier try is still alive, the
            folder gets a number as a suffix.
        log: Called with what was swept, and what could not be.

    Raises:
        ConfigurationError: The work folder can't be used. Not retryable.
        DiskFull: No room. Retryable.
    """
    jobs = sweep(work_folder, log=log)
    with _usable(work_folder):
        folder, lock = _locked_new(jobs, job)
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError, ToolError):
            remove(folder)
        os.close(lock)


def sweep(work_folder: Path, *, log: Callable[[str], None], seconds: float = SWEEP_SECONDS) -> Path:
    """Remove the folders of jobs whose processes have died; what can't be removed stays for the next sweep.

    Returns:
        The folder of this user's jobs.

    Raises:
        ConfigurationError, DiskFull: Like `job_folder`.
    """
    with _usable(work_folder):
        jobs = home(work_folder) / "jobs"
        jobs.mkdir(mode=0o700, exist_ok=True)
        found = sorted(os.scandir(jobs), key=lambda entry: entry.name)
    until = time.monotonic() + seconds
    for entry in found:
        left = until - time.monotonic()
        try:
            if left > 0 and _swept(Path(entry.path), left):
                log(f"removed leftovers of a killed job: {entry.path}")
        except (OSError, ToolError) as error:
            log(
                f"leftovers of a killed job could not be removed, the next job tries again: {entry.path}: {error}"
            )
    return jobs


def home(work_folder: Path) -> Path:
    """This user's part of the work folder, on a network file system also this host's; created if missing.

    Raises:
        ConfigurationError, DiskFull: Like `job_folder`.
    """
    with _usable(work_folder):
        work_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_owner(work_folder)
        folder = work_folder / f"{os.geteuid()}{_host_suffix(work_folder)}"
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
            raise ConfigurationError(
                f"[delivery_chain] work_folder: expected {folder} to be a folder owned by this user, found another "
                "user's, or a link; remove it, or name another work folder"
            )
        return folder


def _check_owner(folder: Path) -> None:
    """Reject a folder created by another user in a shared place such as /tmp: its owner could swap it."""
    everybodys = folder.resolve().parent.stat().st_mode & stat.S_ISVTX
    if everybodys and folder.stat().st_uid not in (os.geteuid(), 0):
        raise ConfigurationError(
            f"[delivery_chain] work_folder {folder}: expected a folder owned by this user, found user "
            f"{folder.stat().st_uid}'s; remove it, or name another one"
        )


@contextlib.contextmanager
def _usable(work_folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(
                f"[delivery_chain] work_folder {work_folder}: the disk is full; free some room"
            ) from error
        raise ConfigurationError(
            f"[delivery_chain] work_folder {work_folder}: expected a folder that the worker can write, found "
            f"{error.strerror} ({error.filename}); correct the setting, or the folder's permissions"
        ) from error


def _locked_new(jobs: Path, job: str) -> tuple[Path, int]:
    for number in itertools.count(1):
        folder = jobs / (job if number == 1 else f"{job}~{number}")
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            folder.mkdir(mode=0o700)
            lock = _lock(folder)
            if lock is not None:
                return folder, lock
            # Another job swept the folder before it was locked.
    raise AssertionError


def _swept(folder: Path, seconds: float) -> bool:
    """Remove one entry, unless a job is using it, or it belongs to another user."""
    about = folder.lstat()
    if about.st_uid != os.geteuid():
        return False
    if not stat.S_ISDIR(about.st_mode):
        folder.unlink(missing_ok=True)
        return True
    try:
        lock = _lock(folder)
    except FileNotFoundError:
        return False
    if lock is None:
        return False
    try:
        remove(folder, seconds=seconds)
    finally:
        os.close(lock)
    return True


def _lock(folder: Path) -> int | None:
    """Lock an existing folder; None if another process holds the lock, or has removed the folder meanwhile."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), folder.lstat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _host_suffix(folder: Path) -> str:
    """Host name as a suffix on network file systems; empty on a local disk."""
    if not _file_system(folder).startswith(_NETWORKS):
        return ""
    known = socket.gethostname()
    with contextlib.suppress(OSError):
        known += Path("/etc/machine-id").read_text("ascii")
    return f"-{hashlib.sha256(known.encode()).hexdigest()[:12]}"


def _file_system(folder: Path) -> str:
    """Type of the file system of a folder, such as `ext4`; empty if the kernel does not say."""
    device = folder.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines():
        if line.split(maxsplit=3)[2] == wanted:
            return line.rpartition(" - ")[2].split()[0]
    return ""
