"""Runs many builds on one worker, kills or cancels some at random moments, and checks what they leave."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from support.build_worker import WAITS

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from support.build_worker import BuildTask, BuildWorker

CGROUPS = Path("/sys/fs/cgroup")
FOREVER = 3600
"""Seconds that a RUN step waits to be interrupted."""


@dataclass(frozen=True, slots=True)
class Left:
    """Contents of the machine that belong to one worker's builds."""

    files: tuple[str, ...]
    """Files below the work folder and the temporary folder, except for those of the layout."""
    mounts: tuple[str, ...]
    processes: tuple[int, ...]
    cgroups: tuple[str, ...]


def left(folder: Path) -> Left:
    """Collect what exists now, including the processes of the worker itself and of running tasks."""
    places = (folder / "work", folder / "tmp")
    files = (
        path for place in places for path in place.glob("**/*") if path.relative_to(place).parts[1:] != ()
    )
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return Left(
        tuple(sorted(str(path) for path in files if path.name != "jobs")),
        tuple(line for line in mounts if str(folder) in line),
        tuple(_processes(folder)),
        tuple(sorted(str(path) for path in CGROUPS.glob("**/buildah-*"))),
    )


def _processes(folder: Path) -> Iterator[int]:
    mark = f"NO_PROXY={folder}".encode()
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in environ.read_bytes().split(b"\0"):
                yield int(environ.parent.name)
        except OSError:
            continue


@dataclass(slots=True)
class Soak:
    """Counts of how the builds ended, and the most files that existed in between."""

    states: dict[str, int]
    most_files: int = 0
    killed_after_all: int = 0
    """Number of cancelled builds that needed SIGKILL after 5 s."""


def soak(
    worker: BuildWorker, folder: Path, rng: random.Random, *, builds: int, kills: int, cancels: int
) -> Soak:
    """Run builds one after the other; interrupt some, half of them in their RUN step and the others at random moments.

    Args:
        worker: From `build_worker`.
        folder: The worker's.
        rng: Says which, how and when.
        builds: How many in all; the first and the last are let alone.
        kills: How many are killed with SIGKILL.
        cancels: How many are cancelled as Airflow does.
    """
    found = Soak({})
    began = time.monotonic()
    _count(found, "", worker.end(worker.start("r0")))
    usual = time.monotonic() - began
    chosen = rng.sample(range(1, builds - 1), kills + cancels)
    for number in range(1, builds):
        if number not in chosen:
            _count(found, "", worker.end(worker.start(f"r{number}")))
            continue
        task = _interruptible(worker, rng, f"r{number}", usual)
        if number in chosen[:kills]:
            task.kill()
            how = "killed: "
        else:
            found.killed_after_all += task.cancel()
            how = "cancelled: "
        _count(found, how, worker.end(task))
        found.most_files = max(found.most_files, len(left(folder).files))
    return found


def _interruptible(worker: BuildWorker, rng: random.Random, run_id: str, usual: float) -> BuildTask:
    task = worker.start(run_id, wait=FOREVER)
    if rng.random() < 0.5:
        task.wait_for(WAITS)
    else:
        time.sleep(rng.uniform(0, usual))
    return task


def _count(found: Soak, how: str, state: str) -> None:
    found.states[how + state] = found.states.get(how + state, 0) + 1
