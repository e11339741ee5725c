"""Builds that are cancelled, killed or lost, in Airflow's own task runner, leave nothing on the worker."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from support.build_soak import FOREVER, left, soak
from support.build_worker import WAITS, BuildWorker, build_worker
from support.builds import running_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("worker")


@pytest.fixture(scope="module")
def worker(folder: Path) -> Iterator[BuildWorker]:
    (folder / "registry").mkdir()
    with running_registry(folder / "registry") as host, build_worker(folder, host) as running:
        yield running


def test_a_cancelled_build_ends_at_once_and_leaves_nothing(worker: BuildWorker, folder: Path) -> None:
    """SIGTERM in a RUN step: everything is removed before Airflow's SIGKILL, and the task may be retried."""
    worker.end(worker.start("before"))
    before = left(folder)
    task = worker.start("cancelled", wait=FOREVER)
    task.wait_for(WAITS)
    assert (task.cancel(), worker.end(task)) == (False, "TaskInstanceState.UP_FOR_RETRY: TaskStopped")
    assert left(folder) == before


def test_what_killed_builds_leave_goes_with_the_next_job(worker: BuildWorker, folder: Path) -> None:
    """A killed task can't clean up; the next run's task does, and says so."""
    task = worker.start("killed", wait=FOREVER)
    task.wait_for(WAITS)
    task.kill()
    assert worker.end(task) == "exit code -9"
    assert left(folder).files != ()
    other = worker.start("other")
    assert worker.end(other) == "TaskInstanceState.SUCCESS"
    assert left(folder).files == ()
    assert "removed leftovers of a killed job: " in other.said()


def test_a_day_ends_as_it_began(worker: BuildWorker, folder: Path) -> None:
    """After a dozen builds, two killed and two cancelled at random moments, nothing of them is on the machine."""
    before = left(folder)
    found = soak(worker, folder, random.Random(7), builds=12, kills=2, cancels=2)  # noqa: S311 - no secret
    assert left(folder) == before
    assert found.states["TaskInstanceState.SUCCESS"] == 8
