"""Describes the sandbox's services and their ports; probes and stops them."""

from __future__ import annotations

import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import requests

from delivery_chain.errors import ConfigurationError
from delivery_chain.sandbox import processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from delivery_chain.sandbox.console import Console
    from delivery_chain.sandbox.layout import Layout, State

LOCALHOST = "127.0.0.1"
PROBE_SECONDS = 10.0
"""Timeout in seconds of one health check. After a timeout the check is repeated, because the machine may be busy."""
FREED_SECONDS = 10.0
PAUSE_SECONDS = 0.1
STOPPING = {
    # SIGINT is PostgreSQL's "fast" shutdown: it disconnects clients and flushes data.
    "postgresql": (signal.SIGINT, 20.0),
    # The scheduler waits for running tasks.
    "airflow-scheduler": (signal.SIGTERM, 20.0),
    # The triggerer sometimes misses its child's exit, and would then wait another 10 s for nothing.
    "airflow-triggerer": (signal.SIGTERM, 4.0),
}
"""The signal that stops a service gracefully, and the grace period before SIGKILL in seconds."""
STOPPING_OTHERS = (signal.SIGTERM, 8.0)


@dataclass(frozen=True, slots=True)
class Service:
    """One background process of the sandbox and its readiness probe."""

    name: str
    argv: tuple[str, ...]
    url: str
    """Address to show to users; empty if the service has none."""
    ready: Callable[[], str]
    """Returns what is still missing; empty once the service is ready."""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    remedy: str = ""
    """Advice for a service that fails to start, beyond reading its log."""


def probe(url: str, *, expect: Callable[[requests.Response], str] | None = None) -> str:
    """Probe a health endpoint.

    Args:
        url: URL on this machine; proxies from the environment are ignored.
        expect: Reads a response of status 200, and returns the problem or an empty string.

    Returns:
        An empty string if healthy, otherwise the problem.
    """
    with requests.Session() as session:
        session.trust_env = False
        try:
            answer = session.get(url, timeout=PROBE_SECONDS)
            if not answer.ok:
                return f"status {answer.status_code}"
            return expect(answer) if expect else ""
        except requests.ConnectionError:
            return "it does not answer yet"
        except requests.RequestException as error:
            return f"{url}: {type(error).__name__}"


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
            # Servers set this option, too: with it, a port in TIME_WAIT counts as free.
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


def is_freed(port: int, *, patience: float = FREED_SECONDS) -> bool:
    """Whether a port is free, or becomes so: a killed process may exit before its last thread releases the port."""
    until = time.monotonic() + patience
    while not (free := is_free(port)) and time.monotonic() < until:
        time.sleep(PAUSE_SECONDS)
    return free


def child_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a background process: this one's, without variables that slow or divert it.

    PYTHONDONTWRITEBYTECODE is dropped, because without bytecode each Airflow task takes seconds longer. Requests to
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
    """Whether this service's recorded process is alive."""
    mark = state.processes.get(name)
    return mark is not None and processes.is_alive(mark)


def halt_in_order(
    names: Sequence[str], layout: Layout, state: State, console: Console, *, patience: float | None = None
) -> None:
    """Stop services, report each, and drop them from the state. Airflow stops first, because it uses all the others.

    Args:
        names: Names of services in the state.
        layout: The sandbox's paths.
        state: The sandbox's state, with the processes.
        console: Gets a line for each service.
        patience: Grace period in seconds. The default, and the maximum, is the service's own in STOPPING.
    """
    airflow = [name for name in names if name.startswith("airflow-")]
    for group in (airflow, [name for name in names if name not in airflow]):
        halt(
            group,
            layout,
            state,
            lambda name, asked: console.line(f"  {name:<24}{'stopped' if asked else 'killed'}"),
            patience=patience,
        )


def halt(
    names: Iterable[str],
    layout: Layout,
    state: State,
    report: Callable[[str, bool], None],
    *,
    patience: float | None = None,
) -> None:
    """Stop services concurrently and drop them from the state.

    `report` gets each service's name, and whether it stopped without being killed.
    """

    def end(name: str) -> tuple[str, bool]:
        number, usual = STOPPING.get(name, STOPPING_OTHERS)
        most = usual if patience is None else min(patience, usual)
        return name, processes.stop(state.processes[name], number=number, patience=most)

    with ThreadPoolExecutor() as pool:
        for name, asked in pool.map(end, tuple(names)):
            del state.processes[name]
            state.save(layout)
            report(name, asked)
