"""What the sandbox runs: services, their ports, and how they are asked and stopped."""

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
"""A health endpoint on this machine that takes longer is asked again: the machine may be busy."""
FREED_SECONDS = 10.0
PAUSE_SECONDS = 0.1
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


def is_freed(port: int, *, patience: float = FREED_SECONDS) -> bool:
    """Whether a port is free, or soon: a killed process counts as gone before its last thread has let go of it."""
    until = time.monotonic() + patience
    while not (free := is_free(port)) and time.monotonic() < until:
        time.sleep(PAUSE_SECONDS)
    return free


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


def halt_in_order(
    names: Sequence[str], layout: Layout, state: State, console: Console, *, patience: float | None = None
) -> None:
    """Stop services and say so: Airflow first, for it uses all the others. Each is forgotten once it is gone.

    Args:
        names: Recorded in the state.
        layout: Where the state is kept.
        state: For the processes.
        console: Gets a line for each.
        patience: Seconds until one is killed; its own as in STOPPING if left out, and never more than that.
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
    tell: Callable[[str, bool], None],
    *,
    patience: float | None = None,
) -> None:
    """Stop services, all at once, and forget them; `tell` gets each name and whether asking it was enough."""

    def end(name: str) -> tuple[str, bool]:
        number, usual = STOPPING.get(name, STOPPING_OTHERS)
        most = usual if patience is None else min(patience, usual)
        return name, processes.stop(state.processes[name], number=number, patience=most)

    with ThreadPoolExecutor() as pool:
        for name, asked in pool.map(end, tuple(names)):
            del state.processes[name]
            state.save(layout)
            tell(name, asked)
