"""Background processes: identified by more than their pid, and stopped together with their children."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from delivery_chain.sandbox import processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from delivery_chain.sandbox.processes import Mark

    Shell = Callable[[str], Mark]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """Start a shell script in the background; whatever it started is gone after the test."""
    started: list[Mark] = []

    def start(script: str) -> Mark:
        mark = processes.start(
            ["/bin/sh", "-c", script], env={"PATH": os.environ["PATH"]}, log=tmp_path / "logs" / "one.log"
        )
        started.append(mark)
        return mark

    yield start
    for mark in started:
        processes.stop(mark, number=signal.SIGKILL)


def wait_for(condition: Callable[[], object]) -> None:
    """Poll until something holds, at most five seconds."""
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.01)


def lines(tmp_path: Path) -> list[str]:
    return processes.tail(tmp_path / "logs" / "one.log")


def test_output_goes_to_a_private_log(shell: Shell, tmp_path: Path) -> None:
    """Standard output and standard error end up in the log, which only its owner can read."""
    mark = shell("echo out; echo err >&2")
    wait_for(lambda: not processes.is_alive(mark))
    assert lines(tmp_path) == ["out", "err"]
    assert (tmp_path / "logs" / "one.log").stat().st_mode & 0o777 == 0o600


def test_a_stopped_process_is_gone(shell: Shell) -> None:
    """Asking is enough for a process that does not resist, and afterwards it is not alive."""
    mark = shell("exec sleep 600")
    assert processes.is_alive(mark)
    assert processes.stop(mark, patience=5)
    assert not processes.is_alive(mark)


def test_one_that_resists_is_killed(shell: Shell, tmp_path: Path) -> None:
    """A process that ignores the signal is killed after a delay, and that is reported."""
    mark = shell("trap '' TERM; echo ready; while :; do sleep 600; done")
    wait_for(lambda: lines(tmp_path) == ["ready"])
    assert not processes.stop(mark, patience=0.2)
    assert not processes.is_alive(mark)


def test_children_go_too(shell: Shell, tmp_path: Path) -> None:
    """A child in a session of its own is stopped with its parent."""
    mark = shell("setsid sleep 600 & echo $!; wait")
    wait_for(lambda: lines(tmp_path))
    wait_for(lambda: len(processes.family(mark)) == 2)
    child = processes.identify(int(lines(tmp_path)[0]))
    assert child is not None
    processes.stop(mark, patience=5)
    assert not processes.is_alive(child)


@pytest.mark.parametrize(
    "change",
    [{"started": 1}, {"boot": "another"}],
    ids=["another start time", "another boot"],
)
def test_a_recycled_pid_is_left_alone(shell: Shell, change: dict[str, object]) -> None:
    """A record whose pid belongs to another process by now is not alive, and stopping it stops nothing."""
    mark = shell("exec sleep 600")
    stale = replace(mark, **change)  # type: ignore[arg-type]
    assert not processes.is_alive(stale)
    processes.stop(stale, patience=0.1)
    assert processes.is_alive(mark)


def test_a_name_with_parentheses_is_read(tmp_path: Path) -> None:
    """The start time is found behind a program name that looks like more fields."""
    program = tmp_path / "a) R 1 (b"
    program.write_text("#!/bin/sh\nsleep 600\n", "ascii")
    program.chmod(0o755)
    mark = processes.start([str(program)], env={"PATH": os.environ["PATH"]}, log=tmp_path / "log")
    try:
        assert processes.identify(mark.pid) == mark
    finally:
        processes.stop(mark, number=signal.SIGKILL)


def test_tail_of_a_long_log_is_its_end(tmp_path: Path) -> None:
    """Only the end of a large file is read."""
    log = tmp_path / "log"
    log.write_text("\n".join(str(number) for number in range(100_000)), "ascii")
    assert processes.tail(log, 2) == ["99998", "99999"]


def test_tail_without_a_log_is_empty(tmp_path: Path) -> None:
    """A service that wrote nothing yet has no last lines."""
    assert processes.tail(tmp_path / "none") == []
