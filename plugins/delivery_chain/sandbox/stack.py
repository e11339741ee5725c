"""Brings the whole local stack up, and takes it down again."""

from __future__ import annotations

import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from delivery_chain.errors import ConfigurationError, DeliveryChainError, UsageError
from delivery_chain.sandbox import (
    airflow_parts,
    database,
    ground,
    needs,
    processes,
    readiness,
    registries,
    services,
    source,
    wanted,
)
from delivery_chain.sandbox.api import AirflowApi
from delivery_chain.sandbox.connections import GIT_HOOKS, connections
from delivery_chain.sandbox.console import Console, seconds
from delivery_chain.sandbox.layout import Layout, State, load_secrets, locked, write_private
from delivery_chain.sandbox.progress import Waiting
from delivery_chain.sandbox.services import LOCALHOST
from delivery_chain.sandbox.starter import Starter
from delivery_chain.spec_store.folder import load

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from delivery_chain.core.names.registry import Registry

TIMEOUT_SECONDS = 1800.0
"""Timeout in seconds for all of `up`, which takes 12 s on two idle cores, and minutes on busy ones."""
ALIVE = timedelta(seconds=30)
"""Maximum age of a healthy component's heartbeat, as in Airflow's `[scheduler] scheduler_health_check_threshold`."""
POLL_TIMEOUT_SECONDS = 15.0
"""Timeout in seconds of one request to Airflow while `up` waits: short, to notice in between if a process exits."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `sandbox up`."""

    database: str = "auto"
    port_base: int | None = None
    registries: tuple[str, ...] = ()
    real_vulnerability_database: bool = False
    specs: str = ""
    dags: str = ""
    timeout: float = TIMEOUT_SECONDS
    """Seconds."""


@dataclass(slots=True)
class Stack:
    """One sandbox: its folder, its state, its console."""

    layout: Layout
    state: State
    console: Console

    @property
    def ui(self) -> str:
        """The address of Airflow's pages."""
        return f"http://{LOCALHOST}:{self.state.ports[airflow_parts.API_SERVER]}"

    @property
    def names(self) -> list[str]:
        """The services of this sandbox, in start order."""
        return list(self.state.settings.get("services", []))

    @property
    def ended(self) -> list[str]:
        """Names of the services that are not running."""
        return [name for name in self.names if not services.running(self.state, name)]

    @property
    def is_up(self) -> bool:
        """Whether every service is running."""
        return bool(self.names) and not self.ended

    def registries(self) -> dict[str, Registry]:
        """Each region's registry, home first."""
        return ground.known_registries(self.state)

    def api(self, *, patient: bool = True) -> AirflowApi:
        """Open Airflow's REST API as its admin; pass `patient=False` in loops that poll anyway."""
        password = load_secrets(self.layout)["admin"]
        if patient:
            return AirflowApi(self.ui, airflow_parts.ADMIN, password)
        return AirflowApi(self.ui, airflow_parts.ADMIN, password, patience=0, timeout=POLL_TIMEOUT_SECONDS)


def open_stack(layout: Layout, console: Console) -> Stack:
    """Read a sandbox's state; changes nothing."""
    return Stack(layout, State.load(layout), console)


def up(layout: Layout, options: Options, console: Console) -> Stack:
    """Start the services that are not running and wait until all are ready.

    After a failure, the services that have started stay up, and the next `up` resumes from there. An interrupt stops
    the services that this call started, but no others.

    Raises:
        UsageError: The options differ from those of the running sandbox.
        ConfigurationError: A program is missing, or a port is taken.
        ToolError: A service exited, or startup took longer than the timeout.
        Interrupted: By Ctrl-C or another signal.
    """
    with locked(layout):
        stack = open_stack(layout, console)
        running = [name for name, mark in stack.state.processes.items() if processes.is_alive(mark)]
        begin = time.monotonic()
        _remove_leftovers(stack)
        _settle(stack, options, running=bool(running))
        starter = Starter(layout, stack.state, console, until=begin + options.timeout)
        with _cleanup(stack, starter):
            _bring_up(stack, starter)
        if starter.started:
            console.line(f"up in {seconds(time.monotonic() - begin)}")
        else:
            console.line("everything is already running")
    return stack


@contextmanager
def _cleanup(stack: Stack, starter: Starter) -> Iterator[None]:
    """Stop the started services on an interrupt; add a note on how to resume to an error."""
    try:
        yield
    except KeyboardInterrupt:
        starter.stop()
        raise
    except DeliveryChainError as error:
        if any(services.running(stack.state, name) for name in stack.names):
            command = stack.layout.command
            error.add_note(
                f"The services that started stay up: `{command('up')}` resumes, `{command('down')}` stops them."
            )
        raise


def _remove_leftovers(stack: Stack) -> None:
    """Stop the orphaned children of dead processes, which may hold a port or a lock."""
    for name, mark in stack.state.processes.items():
        if not services.running(stack.state, name):
            processes.stop(mark)
    if not services.running(stack.state, database.NAME):
        database.remove_leftovers(stack.state)


_OPTIONS = {
    "registries": "registry",
    "real_vulnerability_database": "real-vulnerability-database",
    "specs": "specs",
    "dags": "dags",
}
"""Command-line names of the settings that are fixed while a sandbox runs."""


def _settle(stack: Stack, options: Options, *, running: bool) -> None:
    """Turn the options into settings and ports, and record them."""
    state = stack.state
    asked: dict[str, Any] = {
        "registries": list(options.registries),
        "real_vulnerability_database": options.real_vulnerability_database,
        "specs": options.specs,
        "dags": options.dags,
    }
    known = state.settings
    # The kind of database can't change later, because the database contains Airflow's history.
    kind = known.get("database") or database.choose(options.database)
    if options.database not in {"auto", kind}:
        raise UsageError(
            f"{stack.layout.root}: expected --database {kind}, which holds its data, found {options.database}; "
            f"`{stack.layout.command('down --purge')}` first, or choose another --state"
        )
    changed = [name for name, value in asked.items() if value and value != known.get(name)]
    if running and changed:
        shown = ", ".join(f"--{_OPTIONS[name]}" for name in changed)
        raise UsageError(
            f"{stack.layout.root}: is running, and was not started with this {shown}; "
            f"run `{stack.layout.command('down')}` first, or omit the option"
        )
    if not running:
        # Options that are not given again keep their values, so that `down` and `up` restore the same sandbox.
        kept = {name: known[name] for name in asked if name in known and not asked[name]}
        state.settings = asked | kept | {"database": kind}
    if not running:
        # Before anything starts: a mistyped folder is corrected by a second `up`, without a `down` in between.
        airflow_parts.find_folders(stack.layout, dags=state.settings["dags"], specs=state.settings["specs"])
    given = registries.parse_given(state.settings["registries"])
    needs.check_programs(kind, needs_registry=len(given) < len(registries.REGIONS))
    own = [registries.name_of(region) for region in registries.REGIONS if region not in given]
    own += [database.NAME] if kind == "postgresql" else []
    own += [ground.RECEIVER, airflow_parts.API_SERVER]
    _choose_ports(stack, own, options.port_base, running=running)
    others = ["airflow-dag-processor", "airflow-scheduler", "airflow-triggerer"]
    state.settings["services"] = own + others
    state.save(stack.layout)


def _choose_ports(stack: Stack, names: Sequence[str], base: int | None, *, running: bool) -> None:
    """Assign a port to each service that has none, or whose port another program has taken.

    Raises:
        ConfigurationError: Running services already use the taken port to reach this service.
    """
    state = stack.state
    for name in names:
        port = state.ports.get(name)
        if running and port and not services.running(state, name) and not services.is_freed(port):
            raise ConfigurationError(
                f"{name}: another program has taken port {port}, where the rest of the sandbox expects it; "
                f"stop that program (`ss -ltnp sport = :{port}` names it), or run "
                f"`{stack.layout.command('down')}`: the next `up` chooses another port"
            )
    lost = [
        name
        for name in names
        if not services.running(state, name)
        and not (running and name in state.ports)
        and (base is not None or name not in state.ports or not services.is_free(state.ports[name]))
    ]
    state.ports |= services.free_ports(lost, base=base)


def _bring_up(stack: Stack, starter: Starter) -> None:
    layout, state = stack.layout, stack.state
    secrets = load_secrets(layout)
    new = starter.bring_up(
        ground.services_below(stack.layout, state, secrets, stack.console, until=starter.until)
    )
    now = datetime.now(UTC)
    # If the database was restarted, components that kept running count as healthy only after a new heartbeat.
    alive_since = now if database.NAME in new else now - ALIVE
    home = registries.name_of(registries.HOME)
    if home in new or "trivy_db_repository" not in state.settings:
        state.settings |= ground.publish_databases(state)
        state.save(layout)
    write_private(layout.hook_secret, secrets[GIT_HOOKS])
    source.create_repositories(layout, ground.webhook_url(state, GIT_HOOKS))
    folders = _folders(stack)
    env = airflow_parts.settings(layout, state, secrets, folders)
    airflow_parts.write_files(layout, secrets, env)
    parts = airflow_parts.services(state, env, since=alive_since)
    # If a part of Airflow runs, the database is set up already, and users may have edited the connections.
    if not any(services.running(state, part.name) for part in parts):
        _set_up_airflow(stack, env, secrets, starter)
    first, others = parts[:2], parts[2:]
    starter.launch(first)
    starter.bring_up(first[:1])
    starter.bring_up([*first, *others])
    _await_dags(stack, folders, starter)


def _folders(stack: Stack) -> airflow_parts.Folders:
    """Airflow's folders. A restarted component uses the folders chosen when the first process started."""
    settings = stack.state.settings
    running = any(services.running(stack.state, name) for name in stack.names if name.startswith("airflow-"))
    known = settings.get("folders", {}) if running else {}
    found = airflow_parts.find_folders(
        stack.layout,
        dags=known.get("dags") or settings["dags"],
        specs=known.get("specs") or settings["specs"],
    )
    settings["folders"] = {"dags": str(found.dags.absolute()), "specs": str(found.specs)}
    stack.state.save(stack.layout)
    return found


def _set_up_airflow(stack: Stack, env: dict[str, str], secrets: dict[str, str], starter: Starter) -> None:
    begin = time.monotonic()
    receiver = f"http://{LOCALHOST}:{stack.state.ports[ground.RECEIVER]}"
    given = connections(stack.registries(), stack.layout.git, receiver, secrets)
    with Waiting(stack.console, "Airflow's database setup"):
        airflow_parts.set_up(stack.layout, env, given, deadline=starter.until)
    stack.console.line(f"  {'airflow database':<24}{'ready':<8}{seconds(time.monotonic() - begin)}")


def _await_dags(stack: Stack, folders: airflow_parts.Folders, starter: Starter) -> None:
    begin = time.monotonic()
    ours = all((folders.dags / file).exists() for file in readiness.FILES)
    specs = list(load(folders.specs).specs.values()) if ours else []
    with stack.api() as patient:
        known = patient.connections() if specs else {}
    missing_connections = wanted.missing(specs, known)
    without = {one.connection for one in missing_connections}
    watches = wanted.watches(specs)

    with stack.api(patient=False) as api, Waiting(stack.console, "") as waiting:

        def check(missing: str) -> None:
            waiting.what = missing
            starter.check()
            starter.check_time(missing)

        ready = readiness.Readiness(
            api,
            dags=[*(spec.name for spec in specs), *watches],
            watches=[dag_id for dag_id, connection in watches.items() if connection not in without],
            check=check,
        )
        warnings = ready.wait(foreign=not ours)
    stack.console.line(f"  {'dags':<24}{'ready':<8}{seconds(time.monotonic() - begin)}")
    for line in (*warnings, *wanted.advice(missing_connections, known, stack.layout.airflow_env)):
        stack.console.line(stack.console.paint(f"  {line}", "yellow"))


def down(layout: Layout, console: Console, *, purge: bool = False) -> None:
    """Stop every process of the sandbox; with `purge`, also delete its folder."""
    if not layout.root.exists():
        console.line(f"{layout.root}: no sandbox here")
        return
    with locked(layout):
        stack = open_stack(layout, console)
        services.halt_in_order(list(stack.state.processes), layout, stack.state, console)
        if purge:
            database.remove_cluster(stack.state)
            shutil.rmtree(layout.root)
            console.line(f"removed {layout.root}")
