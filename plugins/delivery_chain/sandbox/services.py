"""What the sandbox runs: a table of services, started together and waited for together."""

from __future__ import annotations

import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import requests

from delivery_chain.errors import ConfigurationError, ToolError
from delivery_chain.sandbox import processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from delivery_chain.sandbox.layout import Layout, State

LOCALHOST = "127.0.0.1"
POLL_SECONDS = 0.1
PROBE_SECONDS = 5.0
"""A health endpoint on this machine that takes longer is counted as not ready."""
STOPPING = {
    # "Fast" shutdown: clients are cut off, the data is flushed.
    "postgresql": (signal.SIGINT, 20.0),
    # It waits for the tasks that run.
    "airflow-scheduler": (signal.SIGTERM, 20.0),
    # It misses the end of its child at times, and would wait 10 s more for what is gone.
    "airflow-triggerer": (signal.SIGTERM, 4.0),
}
"""The signal that asks a service to end, and the seconds from it to SIGKILL."""
STOPPING_OTHERS = (signal.SIGTERM, 8.0)


@dataclass(frozen=True, slots=True)
class Service:
    """One background process of the sandbox and how to tell that it is ready."""

    name: str
    argv: tuple[str, ...]
    url: str
    """Where it answers, for people; empty when nowhere."""
    ready: Callable[[], str]
    """Says what is still missing; an empty text when it is ready."""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    deadline: float = 30.0
    """Seconds from start to readiness."""
    remedy: str = ""
    """What to do when it does not come up, beyond reading its log."""


def probe(url: str, *, expect: Callable[[requests.Response], str] | None = None) -> str:
    """Ask a health endpoint.

    Args:
        url: On this machine; proxies from the environment are left out.
        expect: Reads an answer of status 200 and says what is missing.

    Returns:
        An empty text when it answered well, else what was found.
    """
    with requests.Session() as session:
        session.trust_env = False
        try:
            answer = session.get(url, timeout=PROBE_SECONDS)
        except requests.RequestException as error:
            return f"{url}: {type(error).__name__}"
        if not answer.ok:
            return f"{url}: status {answer.status_code}"
        return expect(answer) if expect else ""


def free_ports(names: Sequence[str], *, base: int | None = None) -> dict[str, int]:
    """Choose a port on 127.0.0.1 for each name: any free ones, or those from `base` on.

    Raises:
        ConfigurationError: A port from `base` on is taken.
    """
    chosen: dict[str, int] = {}
    held: list[socket.socket] = []
    try:
        for offset, name in enumerate(names):
            sock = socket.socket()
            held.append(sock)
            # As servers do: a port whose last connections are still closing counts as free.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            wanted = 0 if base is None else base + offset
            try:
                sock.bind((LOCALHOST, wanted))
            except (OSError, OverflowError) as error:
                raise ConfigurationError(
                    f"port {wanted} for {name}: {error}; choose another --port-base"
                ) from error
            chosen[name] = sock.getsockname()[1]
    finally:
        for sock in held:
            sock.close()
    return chosen


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((LOCALHOST, port))
        except OSError:
            return False
    return True


def child_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a background process: this one's, without what slows down or diverts it.

    PYTHONDONTWRITEBYTECODE goes because without bytecode each Airflow task costs seconds more; calls to
    127.0.0.1 never go through a proxy.
    """
    dropped = {"PYTHONDONTWRITEBYTECODE", "PYTHONPATH"}
    env = {
        name: value
        for name, value in os.environ.items()
        if name not in dropped and not name.startswith("AIRFLOW")
    }
    env["NO_PROXY"] = env["no_proxy"] = ",".join(
        part for part in (env.get("NO_PROXY") or env.get("no_proxy"), LOCALHOST, "localhost") if part
    )
    return env | dict(extra or {})


def running(state: State, name: str) -> bool:
    """Whether this service's recorded process lives."""
    mark = state.processes.get(name)
    return mark is not None and processes.is_alive(mark)


def launch(services: Iterable[Service], layout: Layout, state: State) -> list[str]:
    """Start those that do not run, recording each at once.

    Returns:
        The names of the started ones.
    """
    started = []
    for service in services:
        if running(state, service.name):
            continue
        state.processes[service.name] = processes.start(
            service.argv, env=child_environment(service.env), log=layout.log(service.name)
        )
        state.save(layout)
        started.append(service.name)
    return started


def await_ready(
    services: Sequence[Service], layout: Layout, state: State, tell: Callable[[Service, float], None]
) -> None:
    """Wait until each service is ready, or one has died or is late.

    Args:
        services: Launched together, just before.
        layout: For the log files.
        state: For the processes.
        tell: Called with each service that got ready and the seconds it took.

    Raises:
        ToolError: With the culprit's last log lines and what to do.
    """
    begin = time.monotonic()
    waiting = list(services)
    while waiting:
        for service in tuple(waiting):
            # Asked before the endpoint is: an answer from a dead service's port is some other program's.
            alive = running(state, service.name)
            missing = service.ready()
            passed = time.monotonic() - begin
            if alive and not missing:
                waiting.remove(service)
                tell(service, passed)
            elif not alive or passed > service.deadline:
                late = f"not ready after {service.deadline:.0f} s: {missing}"
                raise _not_ready(service, layout, late if alive else "its process ended before it was ready")
        time.sleep(POLL_SECONDS if waiting else 0)


def _not_ready(service: Service, layout: Layout, found: str) -> ToolError:
    log = layout.log(service.name)
    remedy = f" {service.remedy}" if service.remedy else ""
    return ToolError(
        f"{service.name}: {found}.{remedy} Its log is {log}; the last lines:",
        tool=service.argv[0],
        output=processes.tail(log),
    )


def halt(names: Iterable[str], layout: Layout, state: State, tell: Callable[[str, bool], None]) -> None:
    """Stop services, all at once, and forget them.

    Args:
        names: Recorded in the state.
        layout: Where the state is kept.
        state: For the processes.
        tell: Called with each name and whether asking it was enough.
    """

    def end(name: str) -> tuple[str, bool]:
        number, patience = STOPPING.get(name, STOPPING_OTHERS)
        return name, processes.stop(state.processes[name], number=number, patience=patience)

    with ThreadPoolExecutor() as pool:
        for name, asked in pool.map(end, tuple(names)):
            del state.processes[name]
            state.save(layout)
            tell(name, asked)
