"""Outages of parts of a sandbox: they are killed without warning, and restarted as the sandbox starts them."""

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
        """Within it a part is away; afterwards it is back, and so is each part that ended for want of it."""
        # PostgreSQL's processes share memory: killed, they would leave it behind.
        number = signal.SIGINT if name == database.NAME else signal.SIGKILL
        processes.stop(State.load(self._layout).processes[name], number=number, patience=5)
        try:
            yield
        finally:
            stack.up(self._layout, stack.Options(), self._console)


class Away(Protocol):
    """A part that can be killed and restarted."""

    def away(self, name: str) -> AbstractContextManager[None]:
        """Kill a part for the duration of the block."""


def seconds_away(parts: Away, name: str, seconds: float) -> None:
    """Keep a part down for a number of seconds."""
    with parts.away(name):
        time.sleep(seconds)
