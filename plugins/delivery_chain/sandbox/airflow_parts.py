"""Configures Airflow for the sandbox: settings as environment variables, processes, first-time setup."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import delivery_chain
from delivery_chain.errors import ConfigurationError, ToolError
from delivery_chain.sandbox import database, processes
from delivery_chain.sandbox.layout import write_private
from delivery_chain.sandbox.services import LOCALHOST, Service, child_environment, probe
from delivery_chain.tools import process
from delivery_chain.tools.airflow_rest import PASSWORD, USER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from delivery_chain.sandbox.layout import Layout, State
    from delivery_chain.sandbox.processes import Mark

API_SERVER = "airflow-api-server"
ADMIN = "admin"
URL = "AIRFLOW_API_URL"
"""The environment variable from which `delivery-chain connect`, `trigger` and `webhook` read Airflow's address."""
PARALLELISM = 8
"""Maximum number of concurrent task processes; docs/sandbox.md has the measurements."""
PARSE_SECONDS = 300
"""Timeout for parsing one Dag file, which takes 0.1 s: Airflow's default, 30 s, was too short at a load of 25 on two
cores."""
PACKAGE = Path(delivery_chain.__file__).parent

PRELOAD = """# Tasks are forks of the scheduler, so they inherit what it has already imported.
import sys

if "scheduler" in sys.argv:
    import delivery_chain.dag_files.preload  # noqa: F401
"""
"""Airflow's local settings: every Airflow process imports this file from `$AIRFLOW_HOME/config`."""


def python() -> str:
    """Path of the running interpreter, which is the one with Airflow."""
    return sys.executable


def program_folder() -> Path:
    """The folder with this environment's programs: `airflow`, and `trivy` from its wheel."""
    return Path(sys.executable).parent


@dataclass(frozen=True, slots=True)
class Folders:
    """The folders from which Airflow reads the Dags, the plugin and the specs."""

    dags: Path
    plugins: Path
    specs: Path
    python_path: Path | None
    """The entry to add to PYTHONPATH; None if the package is installed."""


def find_folders(layout: Layout, *, dags: str = "", specs: str = "") -> Folders:
    """Decide between folder mode and wheel mode.

    An installed package, editable or not, provides its plugin by entry point. Airflow then gets an empty plugins
    folder, or it would load the same plugin twice.

    Raises:
        ConfigurationError: A folder does not exist.
    """
    checkout = PACKAGE.parent.parent
    in_checkout = (checkout / "dags" / "delivery_chains.py").exists()
    installed = any(point.name == "delivery_chain" for point in entry_points(group="airflow.plugins"))
    beside = Path("chain_specs")
    if specs:
        specs_folder = Path(specs)
    elif beside.is_dir():
        specs_folder = beside
    else:
        specs_folder = checkout / "chain_specs" if in_checkout else PACKAGE / "_chain_specs"
    found = Folders(
        dags=Path(dags) if dags else (checkout / "dags" if in_checkout else PACKAGE / "_dags"),
        plugins=layout.airflow_home / "plugins" if installed else PACKAGE.parent,
        specs=specs_folder.absolute(),
        python_path=None if installed else PACKAGE.parent,
    )
    for what, folder in (("Dags", found.dags), ("chain specs", found.specs)):
        if not folder.is_dir():
            raise ConfigurationError(f"{folder}: expected the folder with the {what}, found none")
    return found


def settings(layout: Layout, state: State, secrets: Mapping[str, str], folders: Folders) -> dict[str, str]:
    """All settings of Airflow and of the chain, as environment variables.

    Returns:
        Names `AIRFLOW_HOME` and `AIRFLOW__SECTION__OPTION`, plus PATH and, in folder mode, PYTHONPATH.
    """
    port = state.ports[API_SERVER]
    base = f"http://{LOCALHOST}:{port}"
    sections: dict[str, dict[str, Any]] = {
        "core": {
            "dags_folder": folders.dags.absolute(),
            "plugins_folder": folders.plugins,
            "load_examples": False,
            "executor": "LocalExecutor",
            "parallelism": PARALLELISM,
            "max_active_tasks_per_dag": 16,
            "dagbag_import_timeout": PARSE_SECONDS,
            "fernet_key": secrets["fernet"],
            "auth_manager": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
            "simple_auth_manager_users": f"{ADMIN}:admin",
            "simple_auth_manager_passwords_file": layout.passwords_file,
            "execution_api_server_url": f"{base}/execution/",
            "test_connection": "Enabled",
            "dags_are_paused_at_creation": False,
        },
        "database": {
            "sql_alchemy_conn": database.url(state.settings["database"], layout, state, secrets["database"])
        },
        "api": {
            "host": LOCALHOST,
            "port": port,
            "workers": 1,
            "base_url": base,
            "secret_key": secrets["api"],
        },
        "api_auth": {"jwt_secret": secrets["jwt"], "jwt_issuer": "delivery-chain-sandbox"},
        "scheduler": {"scheduler_idle_sleep_time": 0.1},
        # A supervisor often notices only at the next heartbeat that its task has ended, and holds the slot until then.
        # The default timeout for a response of the API server is 5 s, which is too short on a busy machine.
        "workers": {"min_heartbeat_interval": 1, "execution_api_timeout": 60},
        "dag_processor": {
            "refresh_interval": 5,
            "bundle_refresh_check_interval": 2,
            "min_file_process_interval": 30,
            "parsing_processes": 2,
            "dag_file_processor_timeout": 2 * PARSE_SECONDS,
        },
        "logging": {"base_log_folder": layout.airflow_home / "logs"},
        "usage_data_collection": {"enabled": False},
        "delivery_chain": {
            "specs_folder": folders.specs,
            "work_folder": layout.root / "work",
            "trivy_cache_dir": layout.root / "trivy",
            # This lets a sandbox run on Python packages alone; an upstream Trivy on PATH takes precedence.
            "trivy_wheel": "allow",
            "git_transports": "file,https,ssh",
            "git_poll_seconds": 1,
        },
    }
    for kind in ("trivy_db", "trivy_java_db"):
        if repository := state.settings.get(f"{kind}_repository"):
            # The sample does not age, and it is marked as a sample in any case.
            sample = {f"{kind}_repository": repository, f"{kind}_max_age_hours": 365 * 24}
            sections["delivery_chain"] |= sample
    found = {"AIRFLOW_HOME": str(layout.airflow_home)}
    for section, options in sections.items():
        for option, value in options.items():
            found[f"AIRFLOW__{section}__{option}".upper()] = str(value)
    found["PATH"] = f"{program_folder()}:{child_environment().get('PATH', '/usr/bin:/bin')}"
    if folders.python_path:
        found["PYTHONPATH"] = str(folders.python_path)
    return found


def write_files(layout: Layout, secrets: Mapping[str, str], env: Mapping[str, str]) -> None:
    """Write the file to `source`, the password file and the empty plugins folder."""
    login = {URL: env["AIRFLOW__API__BASE_URL"], USER: ADMIN, PASSWORD: secrets["admin"]}
    exported = {name: value for name, value in {**env, **login}.items() if name != "PATH"}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in sorted(exported.items())]
    lines.append(f'export PATH={shlex.quote(str(program_folder()))}:"$PATH"')
    write_private(layout.airflow_env, "\n".join(lines) + "\n")
    write_private(layout.passwords_file, json.dumps({ADMIN: secrets["admin"]}))
    (layout.airflow_home / "plugins").mkdir(exist_ok=True)
    local = layout.airflow_home / "config"
    local.mkdir(exist_ok=True)
    (local / "airflow_local_settings.py").write_text(PRELOAD, encoding="utf-8")


def set_up(
    layout: Layout, env: Mapping[str, str], connections: list[dict[str, Any]], *, deadline: float
) -> None:
    """Migrate the database to this Airflow's schema and write the connections, in one process.

    Args:
        layout: The sandbox's paths.
        env: Settings, from `settings`.
        connections: See `delivery_chain.airflow_db.first_setup`.
        deadline: Deadline on the clock of `time.monotonic()`.

    Raises:
        ToolError: The setup failed; the message has the last lines of output.
    """
    log = layout.log("airflow-setup")
    with log.open("a", encoding="utf-8") as output:
        try:
            process.run(
                [python(), "-m", "delivery_chain.airflow_db.first_setup"],
                tool="airflow",
                env=child_environment(env),
                deadline=deadline,
                # The connections hold secrets, so they are passed on standard input.
                stdin=json.dumps(connections).encode(),
                on_line=lambda line: print(line, file=output),
                merge=True,
            )
        except ToolError as error:
            raise ToolError(
                f"Airflow's database setup failed; its log is {log}. `delivery-chain sandbox down --purge` "
                f"and `up` start from scratch. {error}",
                tool="airflow",
            ) from error


def services(state: State, env: Mapping[str, str], *, since: datetime) -> list[Service]:
    """Airflow's four processes. Logs are read from their files, so no log server listens.

    The API server and the Dag processor come first because the others need them: on a busy machine, four simultaneous
    cold starts would starve each other.

    Args:
        state: The sandbox's state, with ports and processes.
        env: Settings, from `settings`.
        since: Heartbeats before this time are ignored.
    """
    port = state.ports[API_SERVER]
    health = f"http://{LOCALHOST}:{port}/api/v2/monitor/health"
    parts: list[tuple[str, tuple[str, ...], str]] = [
        ("api-server", (), ""),
        ("dag-processor", (), "dag_processor"),
        ("scheduler", ("--skip-serve-logs",), "scheduler"),
        ("triggerer", ("--skip-serve-logs",), "triggerer"),
    ]

    def ready(name: str, part: str) -> str:
        mark = state.processes[name]
        return probe(health, expect=lambda answer: beats(answer.json(), part, after=_later(mark, since)))

    return [
        Service(
            name=f"airflow-{command}",
            argv=(python(), "-m", "airflow", command, *options),
            url=f"http://{LOCALHOST}:{port}" if command == "api-server" else "",
            ready=lambda name=f"airflow-{command}", part=part: ready(name, part),  # type: ignore[misc]
            env=env,
        )
        for command, options, part in parts
    ]


def _later(mark: Mark, since: datetime) -> datetime:
    return max(processes.started_at(mark), since)


def beats(health: Mapping[str, Any], part: str, *, after: datetime) -> str:
    """Check a component's health: empty if healthy, otherwise the problem.

    Args:
        health: The response of `/api/v2/monitor/health`.
        part: `scheduler`, `triggerer` or `dag_processor`; empty for the API server and its database.
        after: Time that the last heartbeat must be newer than: Airflow counts the heartbeat of a killed predecessor
            for another half minute.
    """
    if not part:
        status = health.get("metadatabase", {}).get("status")
        return "" if status == "healthy" else f"its database is {status or 'unknown'}"
    text = health.get(part, {}).get(f"latest_{part}_heartbeat")
    beat = datetime.fromisoformat(text) if text else None
    return "" if beat and beat >= after else "no heartbeat yet"
