"""Parts of a sandbox that go away and come back: killed without a word, and started as the sandbox starts them."""

from __future__ import annotations

import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from delivery_chain.sandbox import airflow_parts, database, processes, services, stack
from delivery_chain.sandbox.layout import load_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from delivery_chain.sandbox.console import Console
    from delivery_chain.sandbox.layout import Layout


class Parts:
    """The processes of a sandbox that runs."""

    def __init__(self, layout: Layout, console: Console) -> None:
        self._running = running = stack.open_stack(layout, console)
        secrets, state = load_secrets(layout), running.state
        folders = airflow_parts.find_folders(
            layout, dags=state.settings["dags"], specs=state.settings["specs"]
        )
        env = airflow_parts.settings(layout, state, secrets, folders)
        found = [*stack._ground(running, secrets), *airflow_parts.services(state, env)]
        self._services = {service.name: service for service in found}

    @contextmanager
    def away(self, name: str) -> Iterator[None]:
        """Within it a part is away; afterwards it is back, and so is each part that ended for want of it."""
        running = self._running
        # PostgreSQL's processes share memory: killed, they would leave it behind.
        number = signal.SIGINT if name == database.NAME else signal.SIGKILL
        processes.stop(running.state.processes[name], number=number, patience=5)
        try:
            yield
        finally:
            self._bring_back([name])
            airflow = [part for part in self._services if part.startswith("airflow-")]
            self._bring_back([part for part in airflow if not services.running(running.state, part)])

    def _bring_back(self, names: list[str]) -> None:
        running = self._running
        wanted = [self._services[name] for name in names]
        services.launch(wanted, running.layout, running.state)
        services.await_ready(wanted, running.layout, running.state, lambda *_: None)


class Away(Protocol):
    """What can go away and come back."""

    def away(self, name: str) -> AbstractContextManager[None]:
        """Within it, it is away."""


def seconds_away(parts: Away, name: str, seconds: float) -> None:
    """Let a part be away for a while."""
    with parts.away(name):
        time.sleep(seconds)
