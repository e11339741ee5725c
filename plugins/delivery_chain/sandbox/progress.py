"""What a long wait says: what it waits for and since when, every 15 seconds."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Self

from delivery_chain.sandbox.console import seconds

if TYPE_CHECKING:
    from delivery_chain.sandbox.console import Console

EVERY_SECONDS = 15.0


class Waiting:
    """Prints a line each EVERY_SECONDS for as long as it is entered. A thread does it: the wait itself may block."""

    def __init__(self, console: Console, what: str, *, every: float = EVERY_SECONDS) -> None:
        self.what = what
        """What is waited for; may change meanwhile. With an empty text nothing is said."""
        self._console = console
        self._every = every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tell, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _tell(self) -> None:
        begin = time.monotonic()
        while not self._over.wait(self._every):
            if self.what:
                self._console.line(f"  waiting for {self.what}; {seconds(time.monotonic() - begin)} so far")
