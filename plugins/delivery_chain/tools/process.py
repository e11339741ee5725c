"""Run one external program: a list of arguments, an allowlisted environment, a deadline, masked output.

This is the only module that starts programs. Each gets its own process group, and the whole group has ended when `run`
returns or raises, whatever the reason. The program also dies if this process is killed.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from delivery_chain.errors import DiskFull, ToolError, ToolMissing
from delivery_chain.tools.lines import LineReader, Masker
from delivery_chain.tools.pump import Pump, has_ended
from delivery_chain.tools.stopping import Stopping

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

MEBIBYTE = 1024 * 1024
MAX_STDOUT = 16 * MEBIBYTE
"""Default limit of captured standard output, in bytes."""
GRACE = 5.0
"""Seconds between terminating a process group and killing it."""
_NO_ROOM = "the worker's disk is full; free some room or give the worker more"
_DISK_FULL = ("no space left on device", "disk quota exceeded", "enospc")

PASSED_ON = (
    "PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)
"""The only variables of the worker that a tool sees: locations of programs, temporary files, proxies and CAs.

HOME is not among them, because it leads to users' configuration and logins. A tool that needs a home gets a folder of
its own.
"""

INSTALL: Mapping[str, str] = {
    "buildah": "install the Debian package buildah",
    "git": "install the Debian package git",
    "newuidmap": "install the Debian package uidmap",
    "runc": "install the Debian package runc",
    "setpriv": "install the Debian package util-linux",
    "slirp4netns": "install the Debian package slirp4netns",
    "ssh": "install the Debian package openssh-client",
    "trivy": "install it from its maintainers' Debian repository, release or image (trivy.dev, docs/trivy.md)",
    "unshare": "install the Debian package util-linux",
}
"""Installation hints for missing programs."""


@dataclass(frozen=True, slots=True)
class Completed:
    """Result of a program."""

    exit_code: int
    """Exit code; negative for the signal that ended it."""
    stdout: bytes
    """Captured standard output; empty if merged into the lines."""
    output: tuple[str, ...]
    """Its last lines of output, secrets masked."""


def base_env() -> dict[str, str]:
    """Return the variables of this process's environment that a tool may see, see `PASSED_ON`."""
    env = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    env.setdefault("PATH", os.defpath)
    env.setdefault("LANG", "C.UTF-8")
    return env


def require(tool: str, env: Mapping[str, str]) -> str:
    """Return the full path of a program.

    Raises:
        ToolMissing: The program is not on `env`'s PATH; the message says how to install it. Not retryable.
    """
    found = shutil.which(tool, path=env.get("PATH", os.defpath))
    if found is None:
        hint = INSTALL.get(tool, "install it")
        raise ToolMissing(f"{tool}: expected it on this worker's PATH, found nothing; {hint}", tool=tool)
    return found


def run(
    argv: Sequence[str],
    *,
    tool: str,
    env: Mapping[str, str],
    deadline: float,
    cwd: Path | None = None,
    on_line: Callable[[str], None] | None = None,
    stdin: bytes | None = None,
    secrets: Collection[str] = (),
    max_stdout: int = MAX_STDOUT,
    merge: bool = False,
    check: bool = True,
    descriptors: Sequence[int] = (),
    umask: int = -1,
) -> Completed:
    """Run a program to completion.

    Args:
        argv: The program and its arguments, without secrets: any user of the machine can read them.
        tool: Name for messages.
        env: The whole environment; nothing is inherited. Usually `base_env()` and a few more variables.
        deadline: Latest end, in seconds on the clock of `time.monotonic()`.
        cwd: Working directory; the root folder by default, so that a tool does not find a checkout by accident.
        on_line: Called with every line of standard error (and of standard output with `merge`), masked,
            without its newline, at most 2,000 characters. An exception from it stops the program.
        stdin: Input of the program; None for empty input.
        secrets: Strings that lines and errors show as `***`.
        max_stdout: Maximum number of bytes of standard output; a program that prints more is stopped.
        merge: Whether to merge standard output into the lines, in order, instead of capturing it.
        check: Whether to raise if the exit code is not 0.
        descriptors: Open files to pass to the program under the same numbers.
        umask: For the program's files; this process's own by default.

    Returns:
        Exit code, captured output and last lines.

    Raises:
        ToolMissing: The program is not installed. Not retryable.
        ToolTimeout: The deadline passed. Not retryable.
        DiskFull: The program reports a full disk. Retryable.
        ToolError: The program could not be started, printed too much, or (with `check`) failed. Not retryable.
    """
    program = require(argv[0], env)
    process = _start(
        [program, *argv[1:]], tool, env=env, cwd=cwd, merge=merge, descriptors=descriptors, umask=umask
    )
    lines = LineReader(Masker(secrets), on_line)
    pump = Pump(process, tool, lines, merge=merge, max_stdout=max_stdout)
    try:
        pump.run(stdin or b"", deadline)
    except Stopping:
        _stop(process, grace=0)
        raise
    except BaseException:
        _stop(process)
        raise
    _kill_group(process.pid)
    _close(process)
    completed = Completed(process.wait(), bytes(pump.captured), lines.last())
    if check and completed.exit_code != 0:
        raise failure(completed, tool=tool)
    return completed


def failure(completed: Completed, *, tool: str, what: str = "") -> ToolError:
    """Build the error for a program that failed: `DiskFull` if its output reports a full disk, otherwise `ToolError`.

    Args:
        completed: How it ended.
        tool: Name for the message.
        what: The operation, such as `push of shop/api`.
    """
    code = completed.exit_code
    ended = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
    subject = f"{tool}: {what}" if what else tool
    if is_disk_full(completed.output):
        return DiskFull(
            f"{subject}: {_NO_ROOM} ({ended})",
            tool=tool,
            exit_code=code,
            output=completed.output,
        )
    return ToolError(
        f"{subject}: expected success, found {ended}; its last lines:",
        tool=tool,
        exit_code=code,
        output=completed.output,
    )


@contextlib.contextmanager
def disk_full_said(tool: str) -> Iterator[None]:
    """Raise `DiskFull` if this process itself runs out of space for a tool's files."""
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise DiskFull(f"{tool}: {_NO_ROOM} ({error.filename})", tool=tool) from error


def is_disk_full(lines: Sequence[str]) -> bool:
    """Whether a program's last lines report a full disk."""
    return any(text in line.lower() for line in lines for text in _DISK_FULL)


@functools.cache
def _dying_with_parent(path: str) -> tuple[str, ...]:
    """Return a wrapper command that has the kernel kill the program when the thread that started it ends.

    `preexec_fn` could do the same but is unsafe with other threads, which Airflow's task process has.
    """
    setpriv = shutil.which("setpriv", path=path)
    return (setpriv, "--pdeathsig", "KILL", "--") if setpriv else ()


def _start(
    argv: Sequence[str],
    tool: str,
    *,
    env: Mapping[str, str],
    cwd: Path | None,
    merge: bool,
    descriptors: Sequence[int],
    umask: int,
) -> subprocess.Popen[bytes]:
    wrapper = _dying_with_parent(env.get("PATH", os.defpath))
    try:
        return subprocess.Popen(
            [*wrapper, *argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merge else subprocess.PIPE,
            env=dict(env),
            cwd=cwd or "/",
            start_new_session=True,
            pass_fds=descriptors,
            umask=umask,
        )
    except OSError as error:
        raise _translated(error, tool) from error


def _translated(error: OSError, tool: str) -> ToolError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return DiskFull(f"{tool}: {_NO_ROOM}", tool=tool)
    reason = error.strerror or type(error).__name__
    return ToolError(f"{tool}: could not be run: {reason}; check the worker's limits", tool=tool)


def _stop(process: subprocess.Popen[bytes], grace: float = GRACE) -> None:
    """Terminate the group, kill it after a grace period, and reap the program."""
    try:
        _signal_group(process.pid, signal.SIGTERM)
        until = time.monotonic() + grace
        # The pipes are not drained here, so a program that blocks on one is killed after the grace period.
        while time.monotonic() < until and not has_ended(process.pid):
            time.sleep(0.02)
    finally:
        _kill_group(process.pid)
        _close(process)
        process.wait()


def _kill_group(pid: int) -> None:
    _signal_group(pid, signal.SIGKILL)


def _signal_group(pid: int, number: signal.Signals) -> None:
    # PermissionError: only another user's processes are left in the group, such as a set-uid helper.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _close(process: subprocess.Popen[bytes]) -> None:
    streams: tuple[IO[bytes] | None, ...] = (process.stdin, process.stdout, process.stderr)
    for stream in streams:
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
