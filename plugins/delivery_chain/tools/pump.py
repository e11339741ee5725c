"""Move bytes between this process and a program that it started, within a deadline and bounds."""

from __future__ import annotations

import os
import selectors
import time
from typing import IO, TYPE_CHECKING

from delivery_chain.errors import ToolError, ToolTimeout

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from delivery_chain.tools.lines import LineReader

_TICK = 0.2
"""Interval, in seconds, for checking whether the program has ended: its children may keep its output open."""
_CHUNK = 64 * 1024


class Pump:
    """Pipes of one program. `captured` and the lines are complete once `run` has returned."""

    def __init__(
        self, process: subprocess.Popen[bytes], tool: str, lines: LineReader, *, merge: bool, max_stdout: int
    ) -> None:
        self.captured = bytearray()
        self._process = process
        self._tool = tool
        self._lines = lines
        self._max_stdout = max_stdout
        self._pending = memoryview(b"")
        self._handlers: list[tuple[IO[bytes] | None, Callable[[bytes], None]]] = [
            (process.stdout, lines.feed if merge else self._capture),
            (process.stderr, lines.feed),
        ]

    def run(self, stdin: bytes, deadline: float) -> None:
        """Feed `stdin` and read until the program has ended; the caller has to reap the program.

        Raises:
            ToolTimeout: `deadline` (of `time.monotonic()`) passed; the program is still running. Not retryable.
            ToolError: The program printed more than allowed, and is still running. Not retryable.
        """
        self._pending = memoryview(stdin)
        with selectors.DefaultSelector() as selector:
            self._register(selector)
            while not has_ended(self._process.pid):
                for key, _ in selector.select(min(self._left(deadline), _TICK)):
                    if not key.data():
                        selector.unregister(key.fileobj)
            # All of the program's own output is in the pipes by now. Do not wait for surviving children.
            for key in list(selector.get_map().values()):
                while key.fileobj is not self._process.stdin and self._is_readable(key.fd) and key.data():
                    self._left(deadline)
        self._lines.close()

    def _register(self, selector: selectors.BaseSelector) -> None:
        for stream, handler in self._handlers:
            if stream is not None:
                reader = self._reader(stream.fileno(), handler)
                selector.register(stream, selectors.EVENT_READ, reader)
        stdin = self._process.stdin
        if stdin is not None:
            os.set_blocking(stdin.fileno(), False)
            if self._feed():
                selector.register(stdin, selectors.EVENT_WRITE, self._feed)

    def _reader(self, descriptor: int, handler: Callable[[bytes], None]) -> Callable[[], bool]:
        def read() -> bool:
            chunk = os.read(descriptor, _CHUNK)
            if chunk:
                handler(chunk)
            return bool(chunk)

        return read

    @staticmethod
    def _is_readable(descriptor: int) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            return bool(selector.select(0))

    def _feed(self) -> bool:
        """Write what fits into the pipe. Once all is written, or the program reads no more, close it; return False."""
        stdin = self._process.stdin
        if stdin is None:
            return False
        try:
            while self._pending:
                self._pending = self._pending[os.write(stdin.fileno(), self._pending[:_CHUNK]) :]
        except BlockingIOError:
            return True
        except BrokenPipeError:
            pass
        stdin.close()
        return False

    def _capture(self, chunk: bytes) -> None:
        self.captured += chunk
        if len(self.captured) > self._max_stdout:
            raise ToolError(
                f"{self._tool}: expected at most {self._max_stdout} bytes of output, found more; it was stopped",
                tool=self._tool,
                output=self._lines.last(),
            )

    def _left(self, deadline: float) -> float:
        left = deadline - time.monotonic()
        if left <= 0:
            self._lines.close()
            raise ToolTimeout(
                f"{self._tool}: expected it to end before its deadline, found it still running; it was stopped. "
                "Give the task more time, or check its last lines:",
                tool=self._tool,
                output=self._lines.last(),
            )
        return left


def has_ended(pid: int) -> bool:
    """Whether a child process has ended. It is not reaped, so that its pid can't be reused for another group."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
