"""Starting processes and waiting for them: those that exit, hang, take long, or are interrupted."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from delivery_chain.errors import ToolError
from delivery_chain.sandbox import database, processes, services
from delivery_chain.sandbox.console import Console
from delivery_chain.sandbox.layout import Layout, State
from delivery_chain.sandbox.services import Service
from delivery_chain.sandbox.starter import Starter

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

LONG = 120.0
FOREVER = "exec sleep 600"


class Calls:
    """Starters of one sandbox, one for each call of `up`; everything that they start is stopped after the test."""

    def __init__(self, root: Path) -> None:
        self.layout, self.state, self.out = Layout(root), State(), io.StringIO()

    def call(self, seconds: float = LONG, *, hanging: float = LONG) -> Starter:
        return Starter(
            self.layout, self.state, Console(self.out), time.monotonic() + seconds, hanging=hanging
        )

    def service(self, name: str, script: str, missing: str = "") -> Service:
        return Service(name, ("/bin/sh", "-c", script), "", lambda: missing, remedy="Mend it.")

    def pids(self) -> dict[str, int]:
        return {name: mark.pid for name, mark in self.state.processes.items()}


@pytest.fixture
def calls(tmp_path: Path) -> Iterator[Calls]:
    found = Calls(tmp_path)
    yield found
    services.halt(list(found.state.processes), found.layout, found.state, lambda *_: None, patience=0.2)


def test_one_that_ends_is_told_at_once_and_the_others_stay(calls: Calls) -> None:
    """With its last lines and advice, long before the deadline; services that came up stay."""
    good, bad = calls.service("good", FOREVER), calls.service("bad", "echo broken; exit 1", "silent")
    with pytest.raises(ToolError) as caught:
        calls.call().bring_up([good, bad])
    assert all(
        part in str(caught.value) for part in ("bad: its process exited", "Mend it.", "bad.log", "broken")
    )
    assert services.running(calls.state, "good")


def test_one_that_ends_after_it_was_ready_is_told_too(calls: Calls) -> None:
    """While others are still starting."""
    first = calls.service("first", "sleep 0.3; echo gone")
    with pytest.raises(ToolError, match="first: its process exited"):
        calls.call().bring_up([first, calls.service("slow", FOREVER, "silent")])


def test_the_end_of_the_time_names_what_is_missing_and_stops_nothing(calls: Calls) -> None:
    """And the option that allows more time."""
    with pytest.raises(ToolError, match=r"slow \(no heartbeat yet\)\. `--timeout SECONDS`"):
        calls.call(0.2).bring_up(
            [calls.service("good", FOREVER), calls.service("slow", FOREVER, "no heartbeat yet")]
        )
    assert all(services.running(calls.state, name) for name in ("good", "slow"))
    before = calls.pids()
    again = calls.call()
    again.bring_up([calls.service("good", FOREVER), calls.service("slow", FOREVER)])
    assert (calls.pids(), again.started) == (before, [])


def test_one_that_ran_before_and_ends_meanwhile_is_started_again(calls: Calls) -> None:
    """Like a scheduler whose database was lost just before."""
    calls.call().bring_up([calls.service("scheduler", "sleep 0.5")])
    until = time.monotonic() + 0.8
    waits = Service(
        "other", ("/bin/sh", "-c", FOREVER), "", lambda: "" if time.monotonic() > until else "silent"
    )
    later = calls.call()
    later.bring_up([calls.service("scheduler", FOREVER), waits])
    assert sorted(later.started) == ["other", "scheduler"]
    assert services.running(calls.state, "scheduler")


def test_one_that_hangs_is_started_again(calls: Calls) -> None:
    """It ran before, and sends no heartbeat for long."""
    calls.call().bring_up([calls.service("scheduler", FOREVER)])
    before = calls.pids()["scheduler"]
    silent = Service(
        "scheduler",
        ("/bin/sh", "-c", FOREVER),
        "",
        lambda: "" if calls.pids()["scheduler"] != before else "no heartbeat yet",
    )
    calls.call(hanging=0.2).bring_up([silent])
    assert "hangs; restarting it" in calls.out.getvalue()


def test_an_interrupt_stops_what_this_call_started_and_nothing_else(calls: Calls) -> None:
    """Services that ran before continue."""
    calls.call().bring_up([calls.service("before", FOREVER)])
    second = calls.call()
    second.launch([calls.service("before", FOREVER), calls.service("new", FOREVER)])
    mark = calls.state.processes["new"]
    second.stop()
    assert not processes.is_alive(mark)
    assert list(calls.state.processes) == ["before"]
    assert services.running(calls.state, "before")


def test_what_a_dead_one_left_is_gone_before_its_successor(calls: Calls) -> None:
    """A child that holds its port or lock."""
    calls.call().bring_up([calls.service("one", "sleep 600 & echo $!; wait")])
    log = calls.layout.log("one")
    deadline = time.monotonic() + 30
    while not processes.tail(log):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child = processes.identify(int(processes.tail(log)[0]))
    assert child
    os.kill(calls.pids()["one"], signal.SIGKILL)
    calls.call().bring_up([calls.service("one", FOREVER)])
    assert not processes.is_alive(child)


def test_a_killed_database_comes_back(calls: Calls) -> None:
    """Even if the dead server is not reaped, so that its pid still exists."""
    calls.state.ports |= services.free_ports([database.NAME])
    try:
        database.create_cluster(calls.layout, calls.state, "secret", deadline=time.monotonic() + LONG)
        server = database.service(calls.state)
        # Not reaped: it is a child of this process, and stays a zombie.
        with subprocess.Popen(server.argv, stderr=subprocess.DEVNULL) as dead:
            deadline = time.monotonic() + LONG
            while server.ready():
                assert time.monotonic() < deadline
                time.sleep(0.05)
            dead.send_signal(signal.SIGKILL)
            os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)
            lock = Path(calls.state.database_folder) / "postmaster.pid"
            assert lock.read_text().splitlines()[0] == str(dead.pid)
            database.remove_leftovers(calls.state)
            calls.call().bring_up([server])
            assert services.running(calls.state, database.NAME)
    finally:
        services.halt(list(calls.state.processes), calls.layout, calls.state, lambda *_: None)
        database.remove_cluster(calls.state)


def test_a_half_made_cluster_is_made_anew(calls: Calls) -> None:
    """An interrupted `initdb` leaves files that look like a cluster."""
    calls.state.ports |= services.free_ports([database.NAME])
    try:
        database.create_cluster(calls.layout, calls.state, "secret", deadline=time.monotonic() + LONG)
        (Path(calls.state.database_folder) / "global" / "pg_control").unlink()
        database.create_cluster(calls.layout, calls.state, "secret", deadline=time.monotonic() + LONG)
        calls.call().bring_up([database.service(calls.state)])
    finally:
        services.halt(list(calls.state.processes), calls.layout, calls.state, lambda *_: None)
        database.remove_cluster(calls.state)
