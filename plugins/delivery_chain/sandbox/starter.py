"""Starts missing services for one `up`, waits until they are ready, and notices at once if one exits."""

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
"""Seconds after which a component without a heartbeat counts as hanging: heartbeats come every 5 s, but on a busy
machine one is occasionally a minute late."""
LONGER = "`--timeout SECONDS` allows more time"
STOP_PATIENCE = 4.0
"""Grace period in seconds for a service that hangs, or whose start was interrupted before it did any work."""


@dataclass(slots=True)
class Starter:
    """The work of one `up`: services to start, and the deadline."""

    layout: Layout
    state: State
    console: Console
    until: float
    """Deadline, on the clock of `time.monotonic()`."""
    hanging: float = HANGING_SECONDS
    """Seconds after which a service that was already running but is not ready counts as hanging."""
    started: list[str] = field(default_factory=list)
    """Names of the services that this call started."""
    _watched: dict[str, Service] = field(default_factory=dict)
    _told: set[str] = field(init=False)
    """Names of the services whose readiness has been printed."""

    def __post_init__(self) -> None:
        self._told = {name for name in self.state.processes if services.running(self.state, name)}

    def launch(self, wanted: Sequence[Service]) -> list[str]:
        """Start the services that are not running, after stopping a dead one's leftovers; return their names."""
        new = [service for service in wanted if not services.running(self.state, service.name)]
        for service in new:
            self._start(service)
        self._watched |= {service.name: service for service in wanted}
        return [service.name for service in new]

    def bring_up(self, wanted: Sequence[Service]) -> list[str]:
        """Start the services that are not running and wait until all are ready, including those already running.

        Returns:
            Names of the services started.

        Raises:
            ToolError: A service exited (the error has the last lines of its log) or takes too long. The others keep
                running.
        """
        begin = time.monotonic()
        new = self.launch(wanted)
        waiting = {service.name: service for service in wanted}
        missing: dict[str, str] = {}
        first: dict[str, float] = {}
        with Waiting(self.console, "") as progress:
            while waiting:
                for name, service in tuple(waiting.items()):
                    # Probe only after checking the processes: on a dead service's port, another program may respond.
                    waiting |= self.check()
                    if why := service.ready():
                        missing[name] = why
                        self._check_hanging(service, first.setdefault(name, time.monotonic()))
                        continue
                    del waiting[name]
                    if missing.pop(name, "") or name not in self._told:
                        self._told.add(name)
                        self.console.line(_ready(service, time.monotonic() - begin))
                progress.what = "; ".join(f"{name} ({why})" for name, why in missing.items())
                if waiting:
                    self.check_time(progress.what)
                    time.sleep(POLL_SECONDS)
        return new

    def check(self) -> dict[str, Service]:
        """Check that all services are alive. Restart once a service that ran before this call and has exited since.

        A scheduler exits with its database, so bringing back the database must bring back the scheduler, too.

        Returns:
            The restarted services, by name.

        Raises:
            ToolError: A service that this call started has exited.
        """
        again = {}
        for name, service in self._watched.items():
            if services.running(self.state, name):
                continue
            if name in self.started:
                raise _ended(service, self.layout)
            self.console.line(f"  {name:<24}exited meanwhile; restarting it")
            self._start(service)
            again[name] = service
        return again

    def _check_hanging(self, service: Service, since: float) -> None:
        """Restart once a service that ran before this call and hangs.

        A scheduler that lost its database may wait forever for its tasks.
        """
        if service.name not in self.started and time.monotonic() - since > self.hanging:
            self.console.line(f"  {service.name:<24}hangs; restarting it")
            self._start(service)

    def check_time(self, missing: str) -> None:
        """Check the deadline.

        Raises:
            ToolError: The deadline has passed.
        """
        if time.monotonic() > self.until:
            raise ToolError(f"not ready in time: {missing}. {LONGER}", tool="sandbox")

    def stop(self) -> None:
        """Stop the services that this call started; further interrupts are deferred until that is done."""
        with interrupts.held():
            names = [name for name in self.started if name in self.state.processes]
            if names:
                self.console.line("interrupted: stopping the services that this call started")
                services.halt_in_order(names, self.layout, self.state, self.console, patience=STOP_PATIENCE)

    def _start(self, service: Service) -> None:
        if mark := self.state.processes.get(service.name):
            processes.stop(mark, patience=STOP_PATIENCE)
        # An interrupt between a start and its record would leave an unrecorded process.
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
        f"{service.name}: its process exited before everything was ready.{remedy} Its log is {log}; the last lines:",
        tool=service.argv[0],
        output=processes.tail(log),
    )
