"""Parts of a sandbox that go away and come back: killed without a word, and started as the sandbox starts them."""

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
    """The processes of a sandbox that runs."""

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
    """What can go away and come back."""

    def away(self, name: str) -> AbstractContextManager[None]:
        """Within it, it is away."""


def seconds_away(parts: Away, name: str, seconds: float) -> None:
    """Let a part be away for a while."""
    with parts.away(name):
        time.sleep(seconds)
