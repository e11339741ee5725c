"""Files for secrets that a tool can only read from a path. They live in memory and leave nothing behind."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def memory_file(content: str) -> Iterator[Path]:
    """A path with `content`, mode 0600, that only this user's processes of this machine can open.

    It is a memfd, reached through this process's own folder in /proc: no disk holds it, and it is gone with
    the process, also after `kill -9`.
    """
    descriptor = os.memfd_create("delivery-chain")
    try:
        os.fchmod(descriptor, 0o600)
        data = memoryview(content.encode())
        while data:
            data = data[os.write(descriptor, data) :]
        yield Path(f"/proc/{os.getpid()}/fd/{descriptor}")
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def passed_file(content: str) -> Iterator[int]:
    """A descriptor of a file with `content`, for a program that inherits it and opens `/proc/self/fd/N`.

    The program may run as another user, so that the mode lets all read. Yet nobody gets at it who does not
    have the descriptor, or may trace a process that has: it is in no folder.
    """
    descriptor = os.memfd_create("delivery-chain")
    try:
        os.fchmod(descriptor, 0o444)
        data = memoryview(content.encode())
        while data:
            data = data[os.write(descriptor, data) :]
        yield descriptor
    finally:
        os.close(descriptor)
