"""The whole stack on this machine: up, again, broken, down; with the spec of docs/sandbox.md and a small Dag."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from delivery_chain.errors import ConfigurationError, UsageError
from delivery_chain.sandbox import interrupts, processes, services, stack, status
from delivery_chain.sandbox.api import AirflowApi
from delivery_chain.sandbox.console import Console
from delivery_chain.sandbox.layout import Layout, State, load_secrets, locked

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[3]
DAG = """
from airflow.sdk import DAG, task

with DAG("small", schedule=None):

    @task
    def connection_type():
        from airflow.sdk import Connection

        return Connection.get("cn-hangzhou").conn_type

    connection_type()
"""
REGION_CONNECTIONS = {"cn-hangzhou", "ap-southeast-1", "eu-central-1"}


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> stack.Options:
    folder = tmp_path_factory.mktemp("given")
    shutil.copytree(ROOT / "dags", folder / "dags")
    (folder / "dags" / "small.py").write_text(DAG, "ascii")
    (folder / "specs").mkdir()
    [spec] = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "sandbox.md").read_text("utf-8"), re.DOTALL)
    (folder / "specs" / "shop.yaml").write_text(spec, "utf-8")
    return stack.Options(database="sqlite", dags=str(folder / "dags"), specs=str(folder / "specs"))


@pytest.fixture(scope="module")
def first() -> io.StringIO:
    """Output of the first `up`."""
    return io.StringIO()


@pytest.fixture(scope="module")
def layout(
    tmp_path_factory: pytest.TempPathFactory, options: stack.Options, first: io.StringIO
) -> Iterator[Layout]:
    """A running sandbox."""
    found = Layout(tmp_path_factory.mktemp("sandbox"))
    try:
        stack.up(found, options, Console(first))
        yield found
    finally:
        stack.down(found, Console(io.StringIO()))


@pytest.fixture
def api(layout: Layout) -> Iterator[AirflowApi]:
    sandbox = stack.open_stack(layout, Console(io.StringIO()))
    with AirflowApi(sandbox.ui, "admin", load_secrets(layout)["admin"]) as found:
        yield found


def wait_for_run(api: AirflowApi, run_id: str) -> str:
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        state = next((run["state"] for run in api.runs("small") if run["dag_run_id"] == run_id), "")
        if state in {"success", "failed"}:
            return str(state)
        time.sleep(0.2)
    return "late"


def test_a_task_runs_and_sees_the_connections(api: AirflowApi) -> None:
    """A run succeeds, and its task reads a registry's connection."""
    assert api.import_errors() == []
    api.trigger("small", "first")
    assert wait_for_run(api, "first") == "success"
    assert api.xcom("small", "first", "connection_type") == "oci_registry"


def test_the_connections_are_there(api: AirflowApi) -> None:
    """The connections that the example chains name, and no others; secrets are masked."""
    found = {one["connection_id"]: one for one in api.call("GET", "/connections")["connections"]}
    others = {"git_shop", "prod_redeploy", "staging_redeploy", "git_hooks", "registry_hooks"}
    assert found.keys() == REGION_CONNECTIONS | others
    assert found["prod_redeploy"]["password"] == "***"


def test_a_second_up_starts_nothing(layout: Layout, options: stack.Options) -> None:
    """All processes stay the same."""
    before = State.load(layout).processes
    out = io.StringIO()
    stack.up(layout, options, Console(out))
    assert State.load(layout).processes == before
    assert "everything is already running" in out.getvalue()


def test_a_spec_of_ones_own_comes_up_with_what_it_lacks(
    first: io.StringIO, layout: Layout, api: AirflowApi
) -> None:
    """The docs' spec: each missing connection with its command, and no wait for a source that can't be polled."""
    assert re.findall(r"  (connection .*|delivery-chain connect .*|run `.*)", first.getvalue()) == [
        "connection prod_target is missing: trigger tell-prod",
        "delivery-chain connect trigger prod_target URL",
        "connection team_git is missing: the source of api",
        "delivery-chain connect git team_git URL",
        f"run `. {layout.airflow_env}` first, so that these commands address this sandbox",
    ]
    assert {"shop", "small"} <= {dag["dag_id"] for dag in api.dags()}


def test_the_environment_file_leads_to_this_airflow(layout: Layout) -> None:
    """It has the address and login that the commands need."""
    script = f'. {layout.airflow_env}; echo "$AIRFLOW_API_URL $AIRFLOW_API_USERNAME $AIRFLOW_API_PASSWORD"'
    done = subprocess.run(["/bin/sh", "-c", script], check=True, capture_output=True, text=True)
    running = stack.open_stack(layout, Console(io.StringIO()))
    assert done.stdout.split() == [running.ui, "admin", load_secrets(layout)["admin"]]


@pytest.mark.parametrize(
    "killed",
    [
        ["registry-cn-hangzhou", "receiver", "airflow-triggerer"],
        ["registry-ap-southeast-1", "airflow-scheduler", "airflow-dag-processor"],
        ["registry-eu-central-1", "airflow-api-server"],
    ],
)
def test_up_brings_back_what_was_killed_and_nothing_else(
    layout: Layout, options: stack.Options, killed: list[str]
) -> None:
    """At their old addresses, with heartbeats of their own; the other processes stay. `status` names the dead ones."""
    before = State.load(layout)
    dead = {before.processes[name] for name in killed}
    for mark in dead:
        os.kill(mark.pid, signal.SIGKILL)
    assert not processes.wait_gone(dead, 60)
    out = io.StringIO()
    assert not status.status(layout, Console(out))
    assert all(f"{name} died; its log is {layout.log(name)}" in out.getvalue() for name in killed)
    assert f"`delivery-chain sandbox up --state {layout.root}` restarts" in out.getvalue()
    stack.up(layout, options, Console(io.StringIO()))
    after = State.load(layout)
    changed = {name for name, mark in after.processes.items() if mark != before.processes[name]}
    assert (changed, after.ports) == (set(killed), before.ports)
    assert stack.open_stack(layout, Console(io.StringIO())).is_up


def test_a_port_that_others_know_is_not_changed(layout: Layout, options: stack.Options) -> None:
    """If another program has taken a dead part's port, the error names it, and everything running stays."""
    before = State.load(layout)
    name = "registry-eu-central-1"
    processes.stop(before.processes[name])
    assert services.is_freed(before.ports[name])
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", before.ports[name]))
        sock.listen()
        with pytest.raises(ConfigurationError, match=f"{name}: another program has taken port"):
            stack.up(layout, options, Console(io.StringIO()))
    stack.up(layout, options, Console(io.StringIO()))
    after = State.load(layout)
    assert {one for one, mark in after.processes.items() if mark != before.processes[one]} == {name}


def test_other_options_are_refused_while_it_runs(layout: Layout, options: stack.Options) -> None:
    """Another specs folder requires a restart, another database a new sandbox."""
    with pytest.raises(UsageError, match="was not started with this --specs; "):
        stack.up(layout, stack.Options(specs="/elsewhere", dags=options.dags), Console(io.StringIO()))
    with pytest.raises(UsageError, match="sqlite"):
        stack.up(layout, stack.Options(database="postgresql"), Console(io.StringIO()))


def test_everything_listens_on_this_machine_only(layout: Layout) -> None:
    """No listening socket of the sandbox's processes is bound to another address than 127.0.0.1."""
    state = State.load(layout)
    members = {member.pid for mark in state.processes.values() for member in processes.family(mark)}
    listing = subprocess.run(["ss", "-Hltnp"], check=True, capture_output=True, text=True).stdout
    bound = {
        line.split()[3].rpartition(":")[0]
        for line in listing.splitlines()
        if any(f"pid={pid}," in line for pid in members)
    }
    assert bound == {"127.0.0.1"}


def test_files_with_secrets_are_private(layout: Layout) -> None:
    """Files with secrets can be read only by their owner."""
    files = [layout.airflow_env, layout.secrets_file, layout.state_file, layout.passwords_file]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_the_environment_file_serves_the_airflow_command(layout: Layout) -> None:
    """After `source airflow.env`, the airflow command uses this sandbox's database."""
    script = f". {layout.airflow_env}; airflow config get-value database sql_alchemy_conn"
    done = subprocess.run(["/bin/sh", "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip().endswith(f"sqlite:///{layout.airflow_home}/airflow.db")


@pytest.mark.parametrize("number", interrupts.NUMBERS)
def test_an_interrupted_up_leaves_nothing(
    tmp_path: Path, options: stack.Options, number: signal.Signals
) -> None:
    """Ctrl-C, SIGTERM or SIGHUP during the start stops what had started, and releases the sandbox."""
    argv = [
        str(Path(sys.executable).with_name("delivery-chain")),
        "sandbox",
        "up",
        "--database=sqlite",
        f"--state={tmp_path / 's'}",
    ]
    argv += [f"--dags={options.dags}", f"--specs={options.specs}"]
    layout = Layout(tmp_path / "s")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as up:
        assert up.stdout is not None
        first = up.stdout.readline()
        marks = set(State.load(layout).processes.values())
        os.kill(up.pid, number)
        rest = up.stdout.read()
    try:
        assert "ready" in first
        assert marks
        assert up.returncode == 128 + number, rest
        assert not [mark for mark in marks if processes.is_alive(mark)]
        assert State.load(layout).processes == {}
        with locked(layout):
            pass
    finally:
        # A shell may have made its children ignore the signal: then nothing was stopped.
        state = State.load(layout)
        services.halt([*state.processes], layout, state, lambda _name, _asked: None)


def test_a_taken_port_is_named() -> None:
    """With a fixed base, the error names a port that another program has."""
    taken = services.free_ports(["one"])["one"]
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", taken))
        sock.listen()
        with pytest.raises(ConfigurationError, match=f"port {taken} for a"):
            services.free_ports(["a", "b"], base=taken)


def test_down_ends_every_process(layout: Layout) -> None:
    """After down, no process of the sandbox is left; up without options restores it with its history."""
    state = State.load(layout)
    members = {member for mark in state.processes.values() for member in processes.family(mark)}
    stack.down(layout, Console(io.StringIO()))
    assert not [member for member in members if processes.is_alive(member)]
    again = stack.up(layout, stack.Options(), Console(io.StringIO()))
    assert (again.state.ports, again.state.settings) == (state.ports, state.settings)
    with AirflowApi(again.ui, "admin", load_secrets(layout)["admin"]) as api:
        assert [run["dag_run_id"] for run in api.runs("small")] == ["first"]
