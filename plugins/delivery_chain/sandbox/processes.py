"""Starts background processes, recognizes them later, and stops them with all their children. Linux only.

A process is identified by its pid, its start time and the boot it started in, so a reused pid is never signalled.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

PROC = Path("/proc")
TAIL_BYTES = 64 * 1024
"""Number of bytes read from the end of a log file to find its last lines."""
POLL_SECONDS = 0.05
KILL_SECONDS = 5.0
"""Seconds for the kernel to end a process after SIGKILL."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The identity of one process, distinct from any later one with the same pid."""

    pid: int
    started: int
    """Clock ticks after boot, field 22 of `/proc/PID/stat`."""
    boot: str
    """The kernel's boot id."""


@dataclass(frozen=True, slots=True)
class _Stat:
    mark: Mark
    parent: int
    session: int
    zombie: bool


def _boot_id() -> str:
    return (PROC / "sys/kernel/random/boot_id").read_text("ascii").strip()


def _stat(pid: int, boot: str) -> _Stat | None:
    try:
        text = (PROC / str(pid) / "stat").read_text("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may contain anything, even parentheses and spaces: count fields from the last one.
    fields = text[text.rindex(")") + 2 :].split()
    mark = Mark(pid, int(fields[19]), boot)
    return _Stat(mark, int(fields[1]), int(fields[3]), fields[0] in "ZX")


def _everything() -> list[_Stat]:
    boot = _boot_id()
    found = (_stat(int(entry.name), boot) for entry in PROC.iterdir() if entry.name.isdecimal())
    return [stat for stat in found if stat is not None]


def identify(pid: int) -> Mark | None:
    """The mark of a running process, or None if no process has this pid."""
    stat = _stat(pid, _boot_id())
    return None if stat is None or stat.zombie else stat.mark


def is_alive(mark: Mark) -> bool:
    """Whether exactly this process still runs. A zombie does not count; zombies of our own children are reaped."""
    with suppress(ChildProcessError):
        os.waitpid(mark.pid, os.WNOHANG)
    return identify(mark.pid) == mark


def started_at(mark: Mark) -> datetime:
    """Start time, UTC, of a process that was started since the last boot."""
    passed = time.clock_gettime(time.CLOCK_BOOTTIME) - mark.started / os.sysconf("SC_CLK_TCK")
    return datetime.now(UTC) - timedelta(seconds=passed)


def start(argv: Sequence[str], *, env: Mapping[str, str], log: Path) -> Mark:
    """Start a process in a session of its own, with empty input; its output is appended to `log`.

    Args:
        argv: The program's absolute path and its arguments.
        env: The whole environment.
        log: Log file; created with mode 0600 if absent.

    Raises:
        FileNotFoundError: The program does not exist.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    pid = os.posix_spawn(
        argv[0],
        list(argv),
        dict(env),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigmask=(),
        setsigdef=(signal.SIGINT, signal.SIGPIPE, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM),
    )
    stat = _stat(pid, _boot_id())
    # Our own child stays in /proc until it is reaped, so it is missing only if /proc is not mounted.
    if stat is None:
        raise ChildProcessError(
            f"process {pid}: expected its /proc/{pid}/stat, found none; is /proc mounted?"
        )
    return stat.mark


def family(mark: Mark) -> set[Mark]:
    """The process, its descendants, and every other process in its session; empty once its pid is reused.

    The kernel does not reuse a session's id while the session has members. So if another process has the pid by now, or
    the machine has rebooted, all members have exited.
    """
    everything = _everything()
    if mark.boot != _boot_id() or any(stat.mark.pid == mark.pid and stat.mark != mark for stat in everything):
        return set()
    found = {stat.mark for stat in everything if stat.mark == mark or stat.session == mark.pid}
    while True:
        pids = {one.pid for one in found}
        grown = found | {stat.mark for stat in everything if stat.parent in pids}
        if grown == found:
            return {stat.mark for stat in everything if stat.mark in found and not stat.zombie}
        found = grown


def stop(mark: Mark, *, number: signal.Signals = signal.SIGTERM, patience: float = 20.0) -> bool:
    """Stop a process and its family: signal it, signal it again after half the grace period, then kill the rest.

    Args:
        mark: The process to stop; ignored if it has exited or its pid has been reused.
        number: The signal that asks the process to stop.
        patience: Grace period in seconds.

    Returns:
        Whether the process stopped without SIGKILL.
    """
    members = family(mark)
    if is_alive(mark):
        members.add(mark)
        # Airflow takes a second signal as "stop waiting"; other programs ignore it.
        for _ in range(2):
            _signal((mark,), number)
            wait_gone({mark}, patience / 2)
        members |= family(mark)
    left = {member for member in members if is_alive(member)}
    asked = mark not in left
    _signal(left - {mark}, signal.SIGTERM)
    left = wait_gone(left - {mark}, min(patience, 2.0)) | (left & {mark})
    _signal(left, signal.SIGKILL)
    wait_gone(left, KILL_SECONDS)
    return asked


def _signal(marks: Iterable[Mark], number: signal.Signals) -> None:
    for mark in marks:
        if is_alive(mark):
            with suppress(ProcessLookupError):
                os.kill(mark.pid, number)


def wait_gone(marks: set[Mark], patience: float) -> set[Mark]:
    """Wait at most `patience` seconds for these processes to exit; return those that still run."""
    deadline = time.monotonic() + patience
    while (left := {mark for mark in marks if is_alive(mark)}) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return left


def working_in(folder: Path) -> set[Mark]:
    """Every process whose working directory is `folder`."""
    found = set()
    for stat in _everything():
        with suppress(OSError):
            if (PROC / str(stat.mark.pid) / "cwd").readlink() == folder:
                found.add(stat.mark)
    return found


def tail(path: Path, lines: int = 12) -> list[str]:
    """The last lines of a log file; empty if it does not exist."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            text = file.read(TAIL_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    return text.rstrip().splitlines()[-lines:]
