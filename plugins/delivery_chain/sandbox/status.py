"""Prints the state of a sandbox's services, the command that restarts them, and the addresses of its pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.sandbox import database
from delivery_chain.sandbox.airflow_parts import ADMIN
from delivery_chain.sandbox.ground import RECEIVER
from delivery_chain.sandbox.layout import load_secrets
from delivery_chain.sandbox.services import LOCALHOST
from delivery_chain.sandbox.stack import Stack, open_stack

if TYPE_CHECKING:
    from delivery_chain.sandbox.console import Console
    from delivery_chain.sandbox.layout import Layout


def status(layout: Layout, console: Console) -> bool:
    """Print each service and its state. Return whether all are running."""
    stack = open_stack(layout, console)
    if not stack.names:
        console.line(f"{layout.root}: no sandbox yet; `{layout.command('up')}` creates one")
        return False
    ended = stack.ended
    rows = [("name", "pid", "state", "address")]
    for name in stack.names:
        mark = stack.state.processes.get(name)
        state = ("died" if mark else "stopped") if name in ended else "running"
        pid = str(mark.pid) if mark and name not in ended else "-"
        rows.append((name, pid, state, _address(stack, name)))
    console.table(rows)
    console.line()
    died = [name for name in ended if name in stack.state.processes]
    for name in died:
        console.line(console.paint(f"{name} died; its log is {layout.log(name)}", "red"))
    if died:
        console.line(f"`{layout.command('up')}` restarts {', '.join(ended)} and leaves the others alone")
    elif ended:
        console.line(f"`{layout.command('up')}` starts {', '.join(ended)}")
    else:
        login(stack)
    return not ended


def _address(stack: Stack, name: str) -> str:
    port = stack.state.ports.get(name)
    if not port:
        return ""
    return f"{LOCALHOST}:{port}" if name == database.NAME else f"http://{LOCALHOST}:{port}"


def login(stack: Stack) -> None:
    """Print the addresses and the login."""
    secrets = load_secrets(stack.layout)
    stack.console.line(f"Airflow     {stack.ui}   user {ADMIN}, password {secrets['admin']}")
    stack.console.line(f"Deliveries  http://{LOCALHOST}:{stack.state.ports[RECEIVER]}/deliveries")
    stack.console.line(f"CLI         . {stack.layout.airflow_env}; airflow dags list")
    stack.console.line(f"Logs        {stack.layout.logs}")
