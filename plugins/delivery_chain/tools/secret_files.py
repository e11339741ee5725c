"""In-memory files for secrets that a tool can only read from a path. They leave nothing behind."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def memory_file(content: str) -> Iterator[Path]:
    """Yield a path with `content`, mode 0600, that only this user's processes on this machine can open.

    It is a memfd, reached through this process's folder in /proc: it is never on disk, and vanishes with the
    process, even after `kill -9`.
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
    """Yield a descriptor of a file with `content`, for a program that inherits it and opens `/proc/self/fd/N`.

    The program may run as another user, so everyone may read the file. But the file is in no folder: to read it, a
    process needs the descriptor, or permission to trace a process that has it.
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
