"""Programs that run in the background of a test, and are stopped with it."""

from __future__ import annotations

import socket
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

SECONDS = 20
"""Default timeout in seconds until a program listens."""


@contextmanager
def running(command: Sequence[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the block ends; it is killed if it does not exit within 10 s of SIGTERM.

    Args:
        command: Program and arguments.
        log: Where its output goes.
        options: More of Popen's.
    """
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, **options)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def await_port(
    process: subprocess.Popen[bytes], port: int, log: Path, *, name: str, seconds: float = SECONDS
) -> None:
    """Wait until a program listens on 127.0.0.1.

    Raises:
        AssertionError: The program exited, or does not listen in time; the message has its log.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
    said = log.read_text(errors="replace")
    raise AssertionError(f"{name} did not start on port {port}:\n{said[-2000:]}")
