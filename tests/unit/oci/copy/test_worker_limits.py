"""Limits that several processes share."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from delivery_chain.core.names.registry import Registry
from delivery_chain.oci.copy.worker_limits import KEPT, WorkerLimits

if TYPE_CHECKING:
    from pathlib import Path

HOME = Registry(host="127.0.0.1:1", plain_http=True)
OTHER = Registry(host="127.0.0.1:2", plain_http=True)
HOLD = """
import sys, time
from pathlib import Path
from delivery_chain.core.names.registry import Registry
from delivery_chain.oci.copy.worker_limits import WorkerLimits

gate = WorkerLimits(Path(sys.argv[1]), requests=1).of(Registry(host="127.0.0.1:1", plain_http=True))
with gate.entered(time.sleep):
    print("inside", flush=True)
    sys.stdin.read()
"""


class Impatient(Exception):
    """Raised instead of waiting."""


def never(seconds: float) -> None:
    raise Impatient


def enters(limits: WorkerLimits, registry: Registry = HOME) -> bool:
    """Whether a slot is free now."""
    try:
        with limits.of(registry).entered(never):
            return True
    except Impatient:
        return False


def test_a_place_that_another_process_holds_is_taken_until_it_is_killed(tmp_path: Path) -> None:
    """The kernel releases the slot, so no cleanup is needed."""
    limits = WorkerLimits(tmp_path, requests=1)
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout
            assert holder.stdout.readline() == "inside\n"
            assert (enters(limits), enters(limits, OTHER)) == (False, True)
        finally:
            holder.kill()
        holder.wait(timeout=10)
        assert enters(limits)


def test_no_more_are_inside_than_are_allowed(tmp_path: Path) -> None:
    """Twenty threads of five processes' worth of limits: three at once, and all get in."""
    inside, most, done = 0, 0, 0
    guard = threading.Lock()
    shared = [WorkerLimits(tmp_path, requests=3) for _ in range(5)]

    def work(limits: WorkerLimits) -> None:
        nonlocal inside, most, done
        with limits.of(HOME).entered(time.sleep):
            with guard:
                inside += 1
                most = max(most, inside)
            time.sleep(0.002)
            with guard:
                inside -= 1
                done += 1

    threads = [threading.Thread(target=work, args=(limits,)) for limits in shared * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert (done, most) == (20, 3)


def test_what_one_process_hears_all_heed(tmp_path: Path) -> None:
    """A registry that asks one process to slow down gets half as many requests from all of them, and a pause."""
    one, two = (WorkerLimits(tmp_path, requests=8) for _ in range(2))
    one.of(HOME).busy(30)
    assert (two.of(HOME).allowed, enters(two)) == (4, False)
    assert (two.of(OTHER).allowed, enters(two, OTHER)) == (8, True)


def test_the_rate_is_one_for_all(tmp_path: Path) -> None:
    """Bytes of one process delay those of another."""
    one, two = (WorkerLimits(tmp_path, rate=1000.0) for _ in range(2))
    waits: list[float] = []
    one.of(HOME).spend(10_000, waits.append)
    two.of(HOME).spend(10_000, waits.append)
    assert [round(wait) for wait in waits] == [10, 20]


@pytest.mark.parametrize("content", [b"", b"torn"])
def test_a_file_that_was_not_written_to_its_end_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    """A worker that dies in the middle of a write spoils nothing."""
    limits = WorkerLimits(tmp_path, requests=8)
    limits.of(HOME).busy(30)
    (state,) = tmp_path.rglob("state")
    state.write_bytes(content)
    assert (limits.of(HOME).allowed, enters(limits)) == (8, True)


def test_registries_that_were_not_used_for_a_day_are_forgotten(tmp_path: Path) -> None:
    """So the folder does not grow with every registry, and every start of the machine."""
    limits = WorkerLimits(tmp_path, requests=8)
    gate = limits.of(OTHER)
    gate.busy(30)
    (state,) = tmp_path.rglob("state")
    old = time.time() - KEPT - 1
    os.utime(state, (old, old))
    WorkerLimits(tmp_path, requests=8).of(HOME).busy(30)
    assert len(list(tmp_path.iterdir())) == 1
    assert enters(limits, OTHER)
