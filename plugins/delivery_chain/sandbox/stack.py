"""Bring the whole local stack up, say how it is, take it down again."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from delivery_chain.errors import UsageError
from delivery_chain.oci.client import RegistryClient
from delivery_chain.sandbox import airflow_parts, database, needs, readiness, registries, services, source
from delivery_chain.sandbox.api import AirflowApi
from delivery_chain.sandbox.connections import GIT_HOOKS, REGISTRY_HOOKS, connections
from delivery_chain.sandbox.console import Console, seconds
from delivery_chain.sandbox.layout import Layout, State, load_secrets, locked, write_private
from delivery_chain.sandbox.services import LOCALHOST, Service
from delivery_chain.sandbox.vulndb import publish_sample_database, publish_sample_java_database

if TYPE_CHECKING:
    from collections.abc import Sequence

    from delivery_chain.core.registry import Registry

RECEIVER = "receiver"
DATABASE_REPOSITORY = "aquasecurity/trivy-db"
DATABASE_TAG = "2"
JAVA_REPOSITORY, JAVA_TAG = "aquasecurity/trivy-java-db", "1"


@dataclass(frozen=True, slots=True)
class Options:
    """What `sandbox up` was asked for."""

    database: str = "auto"
    port_base: int | None = None
    registries: tuple[str, ...] = ()
    real_vulnerability_database: bool = False
    specs: str = ""
    dags: str = ""


@dataclass(slots=True)
class Stack:
    """One sandbox: its folder, what it remembers, where it prints."""

    layout: Layout
    state: State
    console: Console

    @property
    def ui(self) -> str:
        """The address of Airflow's pages."""
        return f"http://{LOCALHOST}:{self.state.ports[airflow_parts.API_SERVER]}"

    @property
    def is_up(self) -> bool:
        """Whether each of its processes runs."""
        names = self._names()
        return bool(names) and all(services.running(self.state, name) for name in names)

    def registries(self) -> dict[str, Registry]:
        """Each region's registry, home first."""
        given = registries.parse_given(self.state.settings["registries"])
        return registries.addresses(self.state.ports, given)

    def _names(self) -> list[str]:
        """The services of this sandbox, in starting order."""
        return list(self.state.settings.get("services", []))


def open_stack(layout: Layout, console: Console) -> Stack:
    """Read a sandbox's state; changes nothing."""
    return Stack(layout, State.load(layout), console)


def up(layout: Layout, options: Options, console: Console) -> Stack:
    """Start what does not run yet and wait until all of it is ready.

    Raises:
        UsageError: The options differ from those of the sandbox that runs.
        ConfigurationError: A program is missing, or a port is taken.
        ToolError: A service did not come up. What this call had started is stopped again.
    """
    with locked(layout):
        stack = open_stack(layout, console)
        before = {name for name in stack.state.processes if services.running(stack.state, name)}
        _settle(stack, options, running=bool(before))
        begin = time.monotonic()
        try:
            started = _bring_up(stack)
        except BaseException:
            _stop_new(stack, before)
            raise
        if started:
            console.line(f"up in {seconds(time.monotonic() - begin)}")
        else:
            console.line("everything runs already")
    return stack


def _settle(stack: Stack, options: Options, *, running: bool) -> None:
    """Turn the options into recorded settings and ports."""
    state = stack.state
    wanted: dict[str, Any] = {
        "registries": list(options.registries),
        "real_vulnerability_database": options.real_vulnerability_database,
        "specs": options.specs,
        "dags": options.dags,
    }
    known = state.settings
    # The database's kind stays what the folder was made with: its history is in there.
    kind = known.get("database") or database.choose(options.database)
    if options.database not in {"auto", kind}:
        raise UsageError(
            f"{stack.layout.root}: has its data in {kind}, found --database {options.database}; "
            "`delivery-chain sandbox down --purge` first, or choose another --state"
        )
    changed = [name for name, value in wanted.items() if value and value != known.get(name)]
    if running and changed:
        raise UsageError(f"{stack.layout.root}: runs with another {', '.join(changed)}; `sandbox down` first")
    if not running:
        # What is not said again stays as it was, so that `down` and `up` give the same sandbox.
        kept = {name: known[name] for name in wanted if name in known and not wanted[name]}
        state.settings = wanted | kept | {"database": kind}
    given = registries.parse_given(state.settings["registries"])
    if not running:
        needs.check_programs(kind, needs_registry=len(given) < len(registries.REGIONS))
    own = [registries.name_of(region) for region in registries.REGIONS if region not in given]
    own += [database.NAME] if kind == "postgresql" else []
    own += [RECEIVER, airflow_parts.API_SERVER]
    _choose_ports(state, own, options.port_base)
    others = ["airflow-scheduler", "airflow-dag-processor", "airflow-triggerer"]
    state.settings["services"] = own + others
    state.save(stack.layout)


def _choose_ports(state: State, names: Sequence[str], base: int | None) -> None:
    """Give a port to each service that has none, or whose port another program has taken since."""
    lost = [
        name
        for name in names
        if not services.running(state, name)
        and (base is not None or name not in state.ports or not services.is_free(state.ports[name]))
    ]
    state.ports |= services.free_ports(lost, base=base)


def _bring_up(stack: Stack) -> list[str]:
    layout, state = stack.layout, stack.state
    secrets = load_secrets(layout)
    started = _start(stack, _ground(stack, secrets))
    state.settings |= _publish_databases(stack)
    state.save(layout)
    write_private(layout.hook_secret, secrets[GIT_HOOKS])
    source.create_repositories(layout, _webhook_url(state, GIT_HOOKS))
    folders = airflow_parts.find_folders(layout, dags=state.settings["dags"], specs=state.settings["specs"])
    env = airflow_parts.settings(layout, state, secrets, folders)
    airflow_parts.write_files(layout, secrets, env)
    parts = airflow_parts.services(state, env)
    if not all(services.running(state, part.name) for part in parts):
        begin = time.monotonic()
        receiver = f"http://{LOCALHOST}:{state.ports[RECEIVER]}"
        wanted = connections(stack.registries(), layout.git, receiver, secrets)
        airflow_parts.set_up(layout, env, wanted)
        stack.console.line(f"  {'airflow database':<24}{'ready':<8}{seconds(time.monotonic() - begin)}")
    started += _start(stack, parts)
    _await_dags(stack, secrets, folders)
    return started


def _webhook_url(state: State, connection: str) -> str:
    """Where a sender of webhooks sends to."""
    return f"http://{LOCALHOST}:{state.ports[airflow_parts.API_SERVER]}/delivery-chain/webhooks/{connection}"


def _await_dags(stack: Stack, secrets: dict[str, str], folders: airflow_parts.Folders) -> None:
    begin = time.monotonic()
    with AirflowApi(stack.ui, airflow_parts.ADMIN, secrets["admin"]) as api:
        watches = (folders.dags / readiness.SOURCES_FILE).exists()
        errors = readiness.await_dags(api, watches_sources=watches)
    stack.console.line(f"  {'dags':<24}{'ready':<8}{seconds(time.monotonic() - begin)}")
    for error in errors:
        stack.console.line(stack.console.paint(f"  not read: {error}", "red"))


def _start(stack: Stack, wanted: list[Service]) -> list[str]:
    def tell(service: Service, passed: float) -> None:
        stack.console.line(f"  {service.name:<24}{'ready':<8}{seconds(passed):<8}{service.url}".rstrip())

    started = services.launch(wanted, stack.layout, stack.state)
    services.await_ready(
        [service for service in wanted if service.name in started], stack.layout, stack.state, tell
    )
    return started


def _ground(stack: Stack, secrets: dict[str, str]) -> list[Service]:
    """What Airflow stands on: registries, receiver, database server."""
    layout, state = stack.layout, stack.state
    token = secrets[REGISTRY_HOOKS]
    told = {registries.HOME: registries.Notified(_webhook_url(state, REGISTRY_HOOKS), token)}
    found = [
        registries.service(layout, region, state.ports[name], secrets["registry"], told.get(region))
        for region in registries.REGIONS
        if (name := registries.name_of(region)) in state.settings["services"]
    ]
    port = state.ports[RECEIVER]
    url = f"http://{LOCALHOST}:{port}"
    program = (airflow_parts.python(), "-m", "delivery_chain.sandbox.receiver")
    found.append(
        Service(
            name=RECEIVER,
            argv=(*program, "--port", str(port), "--file", str(layout.deliveries)),
            url=f"{url}/deliveries",
            ready=lambda: services.probe(f"{url}/health"),
            env={"PYTHONPATH": str(airflow_parts.PACKAGE.parent)},
        )
    )
    if state.settings["database"] == "postgresql":
        database.create_cluster(layout, state, secrets["database"])
        found.append(database.service(state))
    return found


def _publish_databases(stack: Stack) -> dict[str, str]:
    """Put the sample databases into the home registry: settings that name them, empty ones for the real ones."""
    if stack.state.settings["real_vulnerability_database"]:
        return dict.fromkeys(("trivy_db_repository", "trivy_java_db_repository"), "")
    home = stack.registries()[registries.HOME]
    now = datetime.now(UTC)
    with RegistryClient(home) as client:
        publish_sample_database(client, name=DATABASE_REPOSITORY, tag=DATABASE_TAG, now=now)
        publish_sample_java_database(client, name=JAVA_REPOSITORY, tag=JAVA_TAG, now=now)
    return {
        "trivy_db_repository": f"{home.host}/{DATABASE_REPOSITORY}:{DATABASE_TAG}",
        "trivy_java_db_repository": f"{home.host}/{JAVA_REPOSITORY}:{JAVA_TAG}",
    }


def _stop_new(stack: Stack, before: set[str]) -> None:
    names = [name for name in stack.state.processes if name not in before]
    if names:
        stack.console.line("stopping what was started")
        _halt(stack, names)


def _halt(stack: Stack, names: Sequence[str]) -> None:
    """Airflow first: it uses all the others."""
    airflow = [name for name in names if name.startswith("airflow-")]
    for group in (airflow, [name for name in names if name not in airflow]):
        services.halt(
            group,
            stack.layout,
            stack.state,
            lambda name, asked: stack.console.line(f"  {name:<24}{'stopped' if asked else 'killed'}"),
        )


def down(layout: Layout, console: Console, *, purge: bool = False) -> None:
    """Stop every process of the sandbox; with `purge`, delete its folder too."""
    if not layout.root.exists():
        console.line(f"{layout.root}: there is no sandbox here")
        return
    with locked(layout):
        stack = open_stack(layout, console)
        _halt(stack, list(stack.state.processes))
        if purge:
            database.remove_cluster(stack.state)
            shutil.rmtree(layout.root)
            console.line(f"removed {layout.root}")


def status(layout: Layout, console: Console) -> bool:
    """Print each process and whether it runs. Returns whether all of them do."""
    stack = open_stack(layout, console)
    names = stack._names()  # noqa: SLF001 - same module
    if not names:
        console.line(f"{layout.root}: no sandbox yet; `delivery-chain sandbox up` makes one")
        return False
    rows = [("name", "pid", "state", "address")]
    for name in names:
        mark = stack.state.processes.get(name)
        alive = services.running(stack.state, name)
        port = stack.state.ports.get(name)
        address = f"http://{LOCALHOST}:{port}" if port and name != database.NAME else f"{LOCALHOST}:{port}"
        state = "running" if alive else ("died, see its log" if mark else "stopped")
        rows.append((name, str(mark.pid) if mark and alive else "-", state, address if port else ""))
    console.table(rows)
    if stack.is_up:
        console.line()
        login(stack)
    return stack.is_up


def login(stack: Stack) -> None:
    """Print where the pages are and how to log in."""
    secrets = load_secrets(stack.layout)
    stack.console.line(f"Airflow     {stack.ui}   user {airflow_parts.ADMIN}, password {secrets['admin']}")
    stack.console.line(f"Deliveries  http://{LOCALHOST}:{stack.state.ports[RECEIVER]}/deliveries")
    stack.console.line(f"CLI         source {stack.layout.airflow_env}; airflow dags list")
    stack.console.line(f"Logs        {stack.layout.logs}")
