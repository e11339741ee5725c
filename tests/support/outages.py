"""Kills parts of a sandbox without warning, and restarts them as the sandbox starts them."""

from __future__ import annotations

import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from delivery_chain.sandbox import database, processes, stack
from delivery_chain.sandbox.layout import State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from delivery_chain.sandbox.console import Console
    from delivery_chain.sandbox.layout import Layout


class Parts:
    """The processes of a running sandbox."""

    def __init__(self, layout: Layout, console: Console) -> None:
        self._layout = layout
        self._console = console

    @contextmanager
    def away(self, name: str) -> Iterator[None]:
        """Take a part down during the block; afterwards restart it, and each part that exited because of that."""
        # PostgreSQL's processes share memory, which they would leave behind if they were killed.
        number = signal.SIGINT if name == database.NAME else signal.SIGKILL
        processes.stop(State.load(self._layout).processes[name], number=number, patience=5)
        try:
            yield
        finally:
            stack.up(self._layout, stack.Options(), self._console)


class Away(Protocol):
    """Something that can be taken down and restarted."""

    def away(self, name: str) -> AbstractContextManager[None]:
        """Enter a block during which a part is down."""


def seconds_away(parts: Away, name: str, seconds: float) -> None:
    """Take a part down for a while."""
    with parts.away(name):
        time.sleep(seconds)
