"""Measures the cost of an outage: after a push, a part is down for a while, and the run has to finish once it is back.

Run as `python benchmarks/outages.py [PART=SECONDS ...]`; without arguments, it goes through all of `OUTAGES`, on a
sandbox of its own with PostgreSQL. It prints a line per outage, and exits with 1 if a run did not end well.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "plugins"), str(ROOT / "tests")]

from delivery_chain.errors import ToolError  # noqa: E402
from delivery_chain.sandbox import airflow_parts, source, stack  # noqa: E402
from delivery_chain.sandbox.airflow_parts import ADMIN  # noqa: E402
from delivery_chain.sandbox.api import AirflowApi  # noqa: E402
from delivery_chain.sandbox.console import Console  # noqa: E402
from delivery_chain.sandbox.layout import Layout, load_secrets  # noqa: E402
from support.git_http import GitServer, serving  # noqa: E402
from support.outages import Parts, seconds_away  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOURCE = "source"
OUTAGES = {
    "airflow-api-server": 90.0,
    "postgresql": 30.0,
    "registry-cn-hangzhou": 60.0,
    "registry-eu-central-1": 60.0,
    SOURCE: 60.0,
}
"""Length of each outage in seconds, by part. The parts are those of the sandbox, and its git source over HTTP."""
CHAIN = "shop-api"
RUN_SECONDS = 900.0
POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Measured:
    """Result of one push."""

    part: str
    away: float
    state: str
    tries: dict[str, int]
    """Number of tries by task and map index; tasks that took one try are omitted."""
    seconds: float
    """Seconds from the part's return to the run's end."""

    def __str__(self) -> str:
        tries = ", ".join(f"{task}: {number}" for task, number in self.tries.items()) or "one each"
        return f"{self.part:<24}{self.away:>5.0f} s  {self.state:<9}{self.seconds:>6.0f} s after it  tries: {tries}"


class Source:
    """The sandbox's git source over HTTP, which can have an outage as the parts can."""

    def __init__(self, layout: Layout) -> None:
        self.server = GitServer(layout.git)
        self._open = ExitStack()

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Serve the source while the block runs, except during its outages."""
        self._open.enter_context(serving(self.server))
        try:
            yield
        finally:
            self._open.close()

    @contextmanager
    def away(self, name: str) -> Iterator[None]:
        """Enter a block during which the source does not answer."""
        del name
        self._open.close()
        yield
        self._open.enter_context(serving(self.server))


def main(arguments: list[str]) -> int:
    """Run the benchmark; see the module."""
    wanted = {
        name: float(seconds) for name, _, seconds in (one.partition("=") for one in arguments)
    } or OUTAGES
    folder = Path(tempfile.mkdtemp(prefix="outages-"))
    layout = Layout(folder / "sandbox")
    options = stack.Options(specs=str(ROOT / "chain_specs"), dags=str(ROOT / "dags"), database="postgresql")
    console = Console(sys.stderr)
    settings = airflow_parts.settings
    http = {"AIRFLOW__DELIVERY_CHAIN__GIT_TRANSPORTS": "file,http,https,ssh"}
    airflow_parts.settings = lambda *given: settings(*given) | http
    try:
        running = stack.up(layout, options, console)
        parts, served = Parts(layout, console), Source(layout)
        with AirflowApi(running.ui, ADMIN, load_secrets(layout)["admin"]) as api, served.serving():
            found = []
            for number, (part, away) in enumerate(wanted.items()):
                if part == SOURCE:
                    # Do this last: when a part comes back, the sandbox resets its connections.
                    there = {"connection_id": "git_shop", "conn_type": "git", "host": served.server.url("")}
                    api.call("PATCH", "/connections/git_shop", body=there)
                what = served if part == SOURCE else parts
                found.append(measure(api, layout, what, part, away, number))
    finally:
        stack.down(layout, console, purge=True)
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if all(one.state == "success" for one in found) else 1


def measure(
    api: AirflowApi, layout: Layout, parts: Parts | Source, part: str, away: float, number: int
) -> Measured:
    """Push, stop a part as soon as the run exists, restart the part, and wait for the run's end."""
    pushed = source.push(layout, "api", tag=f"v1.{number}.0")
    run_id = wait(lambda: run_of(api, pushed.commit))["dag_run_id"]
    seconds_away(parts, part, away)
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
    """Return the run of a push, or None if it does not exist yet."""
    return next((run for run in api.runs(CHAIN) if (run["conf"] or {}).get("commit") == commit), None)


def ended_run(api: AirflowApi, run_id: str) -> dict[str, Any] | None:
    """Return a run, or None if it has not ended yet."""
    run = next(one for one in api.runs(CHAIN) if one["dag_run_id"] == run_id)
    return run if run["state"] in {"success", "failed"} else None


def wait(look: Callable[[], dict[str, Any] | None]) -> dict[str, Any]:
    """Call `look` until it finds something, and return that; retry if Airflow does not answer."""
    deadline = time.monotonic() + RUN_SECONDS
    while time.monotonic() < deadline:
        try:
            if found := look():
                return found
        except (ToolError, StopIteration):
            pass
        time.sleep(POLL_SECONDS)
    raise SystemExit(f"nothing found within {RUN_SECONDS:g} s")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
