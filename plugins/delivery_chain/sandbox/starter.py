"""One `up` at work: starts what does not run, waits for it, notices at once what ends."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from delivery_chain.errors import ToolError
from delivery_chain.sandbox import interrupts, processes, services
from delivery_chain.sandbox.console import seconds
from delivery_chain.sandbox.progress import Waiting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from delivery_chain.sandbox.console import Console
    from delivery_chain.sandbox.layout import Layout, State
    from delivery_chain.sandbox.services import Service

POLL_SECONDS = 0.1
HANGING_SECONDS = 120.0
"""Heartbeats come every 5 s; on a busy machine the odd one is a minute late."""
LONGER = "`--timeout SECONDS` gives it longer"
STOP_PATIENCE = 4.0
"""Seconds to end for what hangs, and for what has done nothing yet because its start was interrupted."""


@dataclass(slots=True)
class Starter:
    """What one call starts, and how long it may take."""

    layout: Layout
    state: State
    console: Console
    until: float
    """When it gives up, on the clock of `time.monotonic()`."""
    hanging: float = HANGING_SECONDS
    """Seconds after which one that ran before and is not ready counts as hanging."""
    started: list[str] = field(default_factory=list)
    """Names of what this call started."""
    _watched: dict[str, Service] = field(default_factory=dict)
    _told: set[str] = field(init=False)
    """Of whose readiness nothing needs to be said any more."""

    def __post_init__(self) -> None:
        self._told = {name for name in self.state.processes if services.running(self.state, name)}

    def launch(self, wanted: Sequence[Service]) -> list[str]:
        """Start those that do not run, after ending what a dead one left; the names of the started ones."""
        new = [service for service in wanted if not services.running(self.state, service.name)]
        for service in new:
            self._start(service)
        self._watched |= {service.name: service for service in wanted}
        return [service.name for service in new]

    def bring_up(self, wanted: Sequence[Service]) -> list[str]:
        """Start those that do not run and wait until each of them is ready, also those that ran before.

        Returns:
            The names of the started ones.

        Raises:
            ToolError: One ended, with its log's last lines, or it takes too long. The others are left alone.
        """
        begin = time.monotonic()
        new = self.launch(wanted)
        waiting = {service.name: service for service in wanted}
        missing: dict[str, str] = {}
        first: dict[str, float] = {}
        with Waiting(self.console, "") as told:
            while waiting:
                for name, service in tuple(waiting.items()):
                    # Asked after its process is: an answer from a dead service's port is some other program's.
                    waiting |= self.check()
                    if why := service.ready():
                        missing[name] = why
                        self._check_hanging(service, first.setdefault(name, time.monotonic()))
                        continue
                    del waiting[name]
                    if missing.pop(name, "") or name not in self._told:
                        self._told.add(name)
                        self.console.line(_ready(service, time.monotonic() - begin))
                told.what = "; ".join(f"{name} ({why})" for name, why in missing.items())
                if waiting:
                    self.check_time(told.what)
                    time.sleep(POLL_SECONDS)
        return new

    def check(self) -> dict[str, Service]:
        """Look whether all live. What ran before this call and has ended since is started again, once.

        A scheduler ends when its database does: whoever brings the database back wants the scheduler, too.

        Returns:
            What was started again, by name.

        Raises:
            ToolError: One that this call started has ended.
        """
        again = {}
        for name, service in self._watched.items():
            if services.running(self.state, name):
                continue
            if name in self.started:
                raise _ended(service, self.layout)
            self.console.line(f"  {name:<24}ended meanwhile; starting it again")
            self._start(service)
            again[name] = service
        return again

    def _check_hanging(self, service: Service, since: float) -> None:
        """Start one again that ran before and does nothing any more, once.

        A scheduler that lost its database may wait for ever for the tasks that it had.
        """
        if service.name not in self.started and time.monotonic() - since > self.hanging:
            self.console.line(f"  {service.name:<24}runs and does nothing; starting it again")
            self._start(service)

    def check_time(self, missing: str) -> None:
        """Look whether there is time left.

        Raises:
            ToolError: There is none.
        """
        if time.monotonic() > self.until:
            raise ToolError(f"not ready in time: {missing}. {LONGER}", tool="sandbox")

    def stop(self) -> None:
        """End what this call started, whatever comes in between."""
        with interrupts.held():
            names = [name for name in self.started if name in self.state.processes]
            if names:
                self.console.line("interrupted: stopping what this call had started")
                services.halt_in_order(names, self.layout, self.state, self.console, patience=STOP_PATIENCE)

    def _start(self, service: Service) -> None:
        if mark := self.state.processes.get(service.name):
            processes.stop(mark, patience=STOP_PATIENCE)
        # Between a start and its record, an interrupt would leave a process that nobody knows.
        with interrupts.held():
            self.state.processes[service.name] = processes.start(
                service.argv,
                env=services.child_environment(service.env),
                log=self.layout.log(service.name),
            )
            self.started.append(service.name)
            self._told.discard(service.name)
            self.state.save(self.layout)


def _ready(service: Service, passed: float) -> str:
    return f"  {service.name:<24}{'ready':<8}{seconds(passed):<14}{service.url}".rstrip()


def _ended(service: Service, layout: Layout) -> ToolError:
    log = layout.log(service.name)
    remedy = f" {service.remedy}" if service.remedy else ""
    return ToolError(
        f"{service.name}: its process ended before all was ready.{remedy} Its log is {log}; the last lines:",
        tool=service.argv[0],
        output=processes.tail(log),
    )
