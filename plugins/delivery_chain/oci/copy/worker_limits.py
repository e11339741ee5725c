"""Share limits among all processes of one worker: a few files in a folder, locked while in use.

Airflow runs each task in its own process. The kernel releases a lock when its process dies, so a killed task does not
keep its slot.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import random
import shutil
import struct
import time
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from delivery_chain.oci.copy.limits import FIRST_WAIT, REQUESTS_AT_ONCE, Gate, GateState, Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FORM = struct.Struct("<ddd")
KEPT = 86_400.0
"""Seconds that a registry's files are kept after their last use."""
_FIRST_LOOK, _LONGEST_LOOK = 0.005, 0.25
"""Seconds before polling again for a free slot; doubled each time."""


class WorkerLimits(Limits):
    """Limits shared by all processes that use the same folder."""

    def __init__(
        self,
        folder: Path,
        *,
        requests: int = REQUESTS_AT_ONCE,
        rate: float | None = None,
        first_wait: float = FIRST_WAIT,
    ) -> None:
        """Create the limits; each registry gets its gate on first use.

        Args:
            folder: Folder on a local disk; created if missing. Holds no secret.
            requests: Maximum number of concurrent requests to one registry.
            rate: Bytes per second to or from one registry; None for no limit.
            first_wait: Seconds before the first retry; doubled each time.
        """
        super().__init__(requests=requests, rate=rate, first_wait=first_wait)
        self._folder = folder

    def _make(self, key: str) -> Gate:
        folder = self._folder / hashlib.sha256(f"{_boot()}\0{key}".encode()).hexdigest()[:16]
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _forget(self._folder)
        return Gate(key, self._requests, self._rate, store=FileStore(folder))


def _forget(folder: Path) -> None:
    """Remove the files of registries unused for a day, including those from before the last reboot."""
    oldest = time.time() - KEPT
    for state in folder.glob("*/state"):
        # Another process may have removed the file first.
        with contextlib.suppress(OSError):
            if state.stat().st_mtime < oldest:
                shutil.rmtree(state.parent, ignore_errors=True)


@cache
def _boot() -> str:
    """Return the boot id of the machine, because its monotonic clock restarts at boot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


class FileStore:
    """Store of a gate in the files of one folder. The gate's clock has to be the machine's monotonic clock."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._random = random.Random()  # noqa: S311 - spreads the polls, keeps no secret

    @contextmanager
    def state(self, fresh: GateState) -> Iterator[GateState]:
        """Lock and yield the state; `fresh` if none is stored yet."""
        with self._locked("state", fcntl.LOCK_EX) as file:
            kept = os.pread(file, _FORM.size, 0)
            state = GateState(*_FORM.unpack(kept)) if len(kept) == _FORM.size else fresh
            yield state
            os.pwrite(file, _FORM.pack(state.allowed, state.closed_until, state.paid_until), 0)

    @contextmanager
    def place(self, allowed: Callable[[], int], sleep: Callable[[float], object]) -> Iterator[None]:
        """Wait for a free slot among those currently allowed, and hold it."""
        pause = _FIRST_LOOK
        while (file := self._take(allowed())) is None:
            sleep(pause * self._random.uniform(0.5, 1.0))
            pause = min(pause * 2, _LONGEST_LOOK)
        try:
            yield
        finally:
            os.close(file)

    def _take(self, places: int) -> int | None:
        first = self._random.randrange(places)
        for place in range(places):
            file = self._open(f"place-{(first + place) % places}")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
            except BaseException:
                os.close(file)
                raise
            else:
                return file
        return None

    @contextmanager
    def _locked(self, name: str, how: int) -> Iterator[int]:
        file = self._open(name)
        try:
            fcntl.flock(file, how)
            yield file
        finally:
            os.close(file)

    def _open(self, name: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(self._folder / name, flags, 0o600)
        except FileNotFoundError:
            # Another process removed it as unused.
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(self._folder / name, flags, 0o600)
