"""Reports every 15 seconds what a long wait is waiting for, and for how long."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

from delivery_chain.sandbox.console import seconds

if TYPE_CHECKING:
    from delivery_chain.sandbox.console import Console

EVERY_SECONDS = 15.0


class Waiting:
    """A context that prints a line every EVERY_SECONDS. It uses a thread because the wait itself may block."""

    def __init__(self, console: Console, what: str, *, every: float = EVERY_SECONDS) -> None:
        self.what = what
        """Description of the thing awaited; may change during the wait. While it is empty, nothing is printed."""
        self._console = console
        self._every = every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._report, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _report(self) -> None:
        begin = time.monotonic()
        while not self._over.wait(self._every):
            if self.what:
                self._console.line(f"  waiting for {self.what}; {seconds(time.monotonic() - begin)} so far")
