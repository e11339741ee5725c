"""The work folder of a worker, from `[delivery_chain] work_folder`: each user's part of it, and the locks in it.

<work folder>/<user id>/jobs/<job>          on a local disk
<work folder>/<user id>-<host>/jobs/<job>   on a network file system, where locks may not be visible across hosts
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from delivery_chain.errors import ConfigurationError, DiskFull

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def home(work_folder: Path) -> Path:
    """This user's part of the work folder, on a network file system also this host's; created if missing.

    Raises:
        ConfigurationError: The work folder can't be used. Not retryable.
        DiskFull: No room. Retryable.
    """
    with usable(work_folder):
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
def usable(work_folder: Path) -> Iterator[None]:
    """Turn errors of the file system in this block into errors about the setting; see `home`."""
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


def lock(folder: Path) -> int | None:
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
