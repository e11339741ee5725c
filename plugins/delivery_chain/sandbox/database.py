"""Runs Airflow's metadata database for the sandbox: SQLite, or a PostgreSQL cluster of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from delivery_chain.errors import ToolTimeout
from delivery_chain.sandbox import processes
from delivery_chain.sandbox.services import LOCALHOST, Service
from delivery_chain.tools import process

if TYPE_CHECKING:
    from collections.abc import Sequence

    from delivery_chain.sandbox.layout import Layout, State

NAME = "postgresql"
KINDS = ("auto", "sqlite", "postgresql")
SERVER_USER = "postgres"
"""The user that runs the server if the sandbox runs as root, which PostgreSQL refuses."""
DEBIAN = Path("/usr/lib/postgresql")
PROGRAMS = ("initdb", "postgres", "pg_isready")
PROBE_SECONDS = 30
"""Timeout of `pg_isready` in seconds: it gives up by itself after two; the rest is slack for a busy machine."""
ORPHAN_SECONDS = 20
"""Seconds for the children of a killed server to exit, which they do when they next check for their parent."""
PATH_LIMIT_MODE = 0o001
"""Permission bit that lets others enter a folder."""


def binaries() -> Path | None:
    """The folder with the server's programs: that of `initdb` on PATH, otherwise Debian's newest, otherwise None."""
    on_path = shutil.which("initdb")
    folders = [Path(on_path).resolve().parent] if on_path else []
    folders += sorted(DEBIAN.glob("*/bin"), key=lambda folder: float(folder.parent.name), reverse=True)
    return next((folder for folder in folders if all((folder / name).exists() for name in PROGRAMS)), None)


def missing_for_postgresql() -> list[str]:
    """List the missing prerequisites of PostgreSQL; empty if it can be used."""
    missing = []
    if binaries() is None:
        missing.append("the PostgreSQL server (apt-get install postgresql)")
    if find_spec("psycopg2") is None or find_spec("asyncpg") is None:
        missing.append("its Python drivers (pip install 'airflow-delivery-chain[sandbox]')")
    if os.geteuid() == 0 and not _server_user_exists():
        missing.append(f"a user {SERVER_USER!r} to run it as")
    return missing


def choose(wanted: str) -> str:
    """`sqlite` or `postgresql`: the requested one, or for `auto` PostgreSQL if available."""
    if wanted != "auto":
        return wanted
    return "sqlite" if missing_for_postgresql() else "postgresql"


def url(kind: str, layout: Layout, state: State, password: str) -> str:
    """The SQLAlchemy URL of the metadata database."""
    if kind == "sqlite":
        return f"sqlite:///{layout.airflow_home / 'airflow.db'}"
    return f"postgresql+psycopg2://airflow:{password}@{LOCALHOST}:{state.ports[NAME]}/postgres"


def create_cluster(layout: Layout, state: State, password: str, *, deadline: float) -> None:
    """Create the PostgreSQL cluster unless it exists, and record its folder in the state.

    Raises:
        ToolError: `initdb` failed.
    """
    if state.database_folder and (Path(state.database_folder) / "postmaster.opts").exists():
        return
    # No server ever ran here, so any contents are from an interrupted `initdb`.
    remove_cluster(state)
    folder = _cluster_folder(layout)
    state.database_folder = str(folder)
    state.save(layout)
    descriptor, password_file = tempfile.mkstemp()
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(password)
        if os.geteuid() == 0:
            shutil.chown(password_file, SERVER_USER)
        options = ["--username=airflow", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"]
        argv = [*_as_server_user(), _binary("initdb"), f"--pgdata={folder}", f"--pwfile={password_file}"]
        _run([*argv, *options], "initdb", deadline)
    finally:
        Path(password_file).unlink()


def service(state: State) -> Service:
    """The server as a service: on 127.0.0.1 only, no Unix socket, fsync on."""
    port = state.ports[NAME]
    options = {
        "listen_addresses": LOCALHOST,
        "port": str(port),
        "unix_socket_directories": "",
        "max_connections": "200",
        "logging_collector": "off",
    }
    flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    return Service(
        name=NAME,
        argv=(*_as_server_user(), _binary("postgres"), "-D", state.database_folder, *flags),
        url=f"postgresql://airflow@{LOCALHOST}:{port}/postgres",
        ready=lambda: _answers(port),
        remedy="`--database sqlite` runs without it.",
    )


def remove_cluster(state: State) -> None:
    """Delete the cluster's folder, even if it is outside the state folder."""
    if state.database_folder:
        shutil.rmtree(state.database_folder, ignore_errors=True)


def remove_leftovers(state: State) -> None:
    """Remove a killed server's children and lock file, which would keep a new server from starting.

    PostgreSQL considers the lock file live while a process with the dead server's pid exists. That is forever if the
    dead server is never reaped, as in a container without an init.
    """
    if not state.database_folder:
        return
    folder = Path(state.database_folder)
    processes.wait_gone(processes.working_in(folder), ORPHAN_SECONDS)
    lock = folder / "postmaster.pid"
    try:
        pid = int(lock.read_text("ascii").partition("\n")[0])
    except (FileNotFoundError, ValueError):
        return
    mark = state.processes.get(NAME)
    if processes.identify(pid) is None or (mark and mark.pid == pid and not processes.is_alive(mark)):
        lock.unlink()


def _answers(port: int) -> str:
    argv = [_binary("pg_isready"), f"--host={LOCALHOST}", f"--port={port}", "--timeout=2"]
    try:
        done = _run(argv, "pg_isready", time.monotonic() + PROBE_SECONDS, check=False)
    except ToolTimeout:
        return "pg_isready does not finish"
    return "" if done.exit_code == 0 else done.stdout.decode("utf-8", "replace").strip()


def _cluster_folder(layout: Layout) -> Path:
    inside = layout.root / "postgresql"
    if os.geteuid() != 0:
        inside.mkdir(mode=0o700, exist_ok=True)
        return inside
    # The server's user must be able to enter every folder above its data, which rules out root's home.
    if all(folder.stat().st_mode & PATH_LIMIT_MODE for folder in inside.parents):
        inside.mkdir(mode=0o700, exist_ok=True)
    else:
        inside = Path(tempfile.mkdtemp(prefix="delivery-chain-postgresql-", dir="/var/tmp"))
    shutil.chown(inside, SERVER_USER, SERVER_USER)
    return inside


def _server_user_exists() -> bool:
    try:
        pwd.getpwnam(SERVER_USER)
    except KeyError:
        return False
    return True


def _as_server_user() -> tuple[str, ...]:
    if os.geteuid() != 0:
        return ()
    return (
        shutil.which("setpriv") or "/usr/bin/setpriv",
        f"--reuid={SERVER_USER}",
        f"--regid={SERVER_USER}",
        "--init-groups",
        "--",
    )


def _binary(name: str) -> str:
    return str((binaries() or DEBIAN) / name)


def _run(argv: Sequence[str], tool: str, deadline: float, *, check: bool = True) -> process.Completed:
    return process.run(argv, tool=tool, env=process.base_env(), deadline=deadline, check=check)
