"""What an outage costs: a push is accepted, then a part is away for a while; its image has to come when it is back.

Run as `python benchmarks/outages.py [PART=SECONDS ...]`; without arguments all of `OUTAGES`, one after the other, on a
sandbox of its own with PostgreSQL. Prints a line per outage, and exits with 1 if a run did not end well.
"""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "plugins"), str(ROOT / "benchmarks")]

from delivery_chain.errors import ToolError  # noqa: E402
from delivery_chain.sandbox import airflow_parts, processes, services, source, stack  # noqa: E402
from delivery_chain.sandbox.airflow_parts import ADMIN  # noqa: E402
from delivery_chain.sandbox.api import AirflowApi  # noqa: E402
from delivery_chain.sandbox.console import Console  # noqa: E402
from delivery_chain.sandbox.layout import Layout, load_secrets  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

OUTAGES = {
    "airflow-api-server": 90.0,
    "postgresql": 30.0,
    "registry-cn-hangzhou": 60.0,
    "registry-eu-central-1": 60.0,
}
"""Seconds by the sandbox's name of a part."""
CHAIN = "shop-api"
RUN_SECONDS = 900.0
POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of one push."""

    part: str
    away: float
    state: str
    tries: dict[str, int]
    """By task and map index; those that took one are left out."""
    seconds: float
    """From the part's return to the run's end."""

    def __str__(self) -> str:
        tries = ", ".join(f"{task}: {number}" for task, number in self.tries.items()) or "one each"
        return f"{self.part:<24}{self.away:>5.0f} s  {self.state:<9}{self.seconds:>6.0f} s after it  tries: {tries}"


class Parts:
    """The sandbox's processes, to be stopped and started one at a time."""

    def __init__(self, running: stack.Stack) -> None:
        self._stack = running
        secrets = load_secrets(running.layout)
        state = running.state
        folders = airflow_parts.find_folders(
            running.layout, dags=state.settings["dags"], specs=state.settings["specs"]
        )
        env = airflow_parts.settings(running.layout, state, secrets, folders)
        ground = stack._ground(running, secrets)  # noqa: SLF001 - the sandbox starts parts all at once only
        found = [*ground, *airflow_parts.services(state, env)]
        self._services = {service.name: service for service in found}

    def kill(self, name: str) -> None:
        """End a part without a word."""
        number = signal.SIGINT if name == "postgresql" else signal.SIGKILL
        processes.stop(self._stack.state.processes[name], number=number, patience=5)

    def start(self, name: str) -> None:
        """Bring a part back, and any Airflow part that died for want of it."""
        wanted = [
            self._services[name],
            *(one for one in self._services.values() if one.name.startswith("airflow-")),
        ]
        services.launch(wanted, self._stack.layout, self._stack.state)


def main(arguments: list[str]) -> int:
    """Measure; see the module."""
    wanted = {
        name: float(seconds) for name, _, seconds in (one.partition("=") for one in arguments)
    } or OUTAGES
    folder = Path(tempfile.mkdtemp(prefix="outages-"))
    layout = Layout(folder / "sandbox")
    options = stack.Options(specs=str(ROOT / "chain_specs"), dags=str(ROOT / "dags"), database="postgresql")
    console = Console(sys.stderr)
    try:
        running = stack.up(layout, options, console)
        parts = Parts(running)
        with AirflowApi(running.ui, ADMIN, load_secrets(layout)["admin"]) as api:
            found = [measure(api, layout, parts, *one, number) for number, one in enumerate(wanted.items())]
    finally:
        stack.down(layout, console, purge=True)
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if all(one.state == "success" for one in found) else 1


def measure(api: AirflowApi, layout: Layout, parts: Parts, part: str, away: float, number: int) -> Measured:
    """Push, take a part away as soon as the run is there, bring it back, and wait for the run's end."""
    pushed = source.push(layout, "api", tag=f"v1.{number}.0")
    run_id = wait(lambda: run_of(api, pushed.commit))["dag_run_id"]
    parts.kill(part)
    time.sleep(away)
    parts.start(part)
    back = time.monotonic()
    ended = wait(lambda: ended_run(api, run_id))
    tries = {
        f"{one['task_id']} {max(0, one['map_index'])}": one["try_number"]
        for one in api.task_instances(CHAIN, run_id)
        if one["try_number"] > 1
    }
    found = Measured(part, away, ended["state"], tries, time.monotonic() - back)
    print(found, flush=True)
    return found


def run_of(api: AirflowApi, commit: str) -> dict[str, Any] | None:
    """The run of a push, once it is there."""
    return next((run for run in api.runs(CHAIN) if (run["conf"] or {}).get("commit") == commit), None)


def ended_run(api: AirflowApi, run_id: str) -> dict[str, Any] | None:
    """A run, once it has ended."""
    run = next(one for one in api.runs(CHAIN) if one["dag_run_id"] == run_id)
    return run if run["state"] in {"success", "failed"} else None


def wait(look: Callable[[], dict[str, Any] | None]) -> dict[str, Any]:
    """What `look` finds, as soon as it does; an Airflow that does not answer is asked again."""
    deadline = time.monotonic() + RUN_SECONDS
    while time.monotonic() < deadline:
        try:
            if found := look():
                return found
        except (ToolError, StopIteration):
            pass
        time.sleep(POLL_SECONDS)
    raise SystemExit(f"nothing within {RUN_SECONDS:g} s")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
