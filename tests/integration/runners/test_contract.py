"""The contract of runners: every runner in the table passes it, with a real source, builder and registry."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from delivery_chain.errors import ConfigurationError
from delivery_chain.jobs.failure import Failure
from delivery_chain.jobs.job import BuildDone
from delivery_chain.oci.client import RegistryClient
from delivery_chain.runners.interface import Handle
from delivery_chain.runners.table import RUNNERS
from support.builds import PASSWORD
from support.jobs import WAITS, Source

if TYPE_CHECKING:
    from pathlib import Path

    from delivery_chain.core.names.registry import Registry
    from delivery_chain.runners.interface import Runner

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("buildah") is None, reason="needs root and buildah"),
]


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that contains the jobs' folders."""
    monkeypatch.setenv("AIRFLOW__DELIVERY_CHAIN__WORK_FOLDER", str(tmp_path / "work"))
    return tmp_path / "work" / str(os.geteuid()) / "jobs"


@pytest.fixture(params=sorted(RUNNERS))
def runner(request: pytest.FixtureRequest, jobs: Path) -> Runner:
    """One runner of the table."""
    return RUNNERS.load(request.param)()


def left(jobs: Path) -> list[str]:
    """Leftovers of jobs on this machine."""
    return [path.name for path in jobs.iterdir()] if jobs.exists() else []


def test_a_job_is_run_to_its_result(runner: Runner, source: Source, registry: Registry, jobs: Path) -> None:
    """The digest is that of the registry; no file is left, and no line shows the password."""
    lines: list[str] = []
    found = runner.watch(runner.submit(source.job(), source.logins(registry), "a-build-0"), lines.append)
    assert isinstance(found, BuildDone)
    with RegistryClient(registry) as client:
        assert client.get_manifest("shop/api", "built").digest == found.digest
    assert (lines != [], [line for line in lines if PASSWORD in line], left(jobs)) == (True, [], [])


def test_a_key_is_one_job(runner: Runner, source: Source, registry: Registry) -> None:
    """Submitted again, it is the same job."""
    first = runner.submit(source.job(), source.logins(registry), "b-build-0")
    again = runner.submit(source.job(), source.logins(registry), "b-build-0")
    assert (again, isinstance(runner.watch(again, print), BuildDone)) == (first, True)


def test_a_handle_shows_no_login(runner: Runner, source: Source, registry: Registry) -> None:
    """It may be stored where users can read it."""
    assert PASSWORD not in repr(runner.submit(source.job(), source.logins(registry), "c-build-0"))


def test_a_failed_job_is_a_failure(runner: Runner, source: Source, registry: Registry, jobs: Path) -> None:
    """Error, message and whether to retry are returned as data; nothing is left."""
    job = source.job(dockerfile="Containerfile")
    found = runner.watch(runner.submit(job, source.logins(registry), "d-build-0"), print)
    assert isinstance(found, Failure)
    assert (found.error, found.retryable, "Containerfile" in found.message) == ("BuildFailed", False, True)
    assert left(jobs) == []


def test_a_job_that_nobody_submitted(runner: Runner) -> None:
    """It counts as lost, and a retry starts over."""
    found = runner.watch(Handle("e-build-0"), print)
    assert isinstance(found, Failure)
    assert (found.error, found.retryable) == ("JobLost", True)


def test_a_cancelled_job_ends(runner: Runner, source: Source, registry: Registry, jobs: Path) -> None:
    """Cancelled from a signal handler, as Airflow does, in the middle of a step: it ends and leaves nothing."""
    handle = runner.submit(source.job(wait=4713), source.logins(registry), "f-build-0")
    before = signal.signal(signal.SIGUSR1, lambda *_: runner.cancel(handle))

    def watch(line: str) -> None:
        if line.strip() == WAITS:
            os.kill(os.getpid(), signal.SIGUSR1)

    try:
        found = runner.watch(handle, watch)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert isinstance(found, Failure)
    assert (found.error, found.retryable, left(jobs)) == ("TaskStopped", True, [])


def test_a_cancelled_job_does_not_begin(runner: Runner, source: Source, registry: Registry) -> None:
    """Cancelled before it is watched, it never runs."""
    handle = runner.submit(source.job(), source.logins(registry), "g-build-0")
    runner.cancel(handle)
    assert isinstance(runner.watch(handle, print), Failure)


DYING = f"""
import os, signal, sys
from pathlib import Path
from delivery_chain.core.names.registry import Registry
from delivery_chain.runners.table import RUNNERS
from support.jobs import Source
source = Source(sys.argv[2], sys.argv[3])
registry = Registry(sys.argv[4], username="robot", password=sys.stdin.read(), plain_http=True)
runner = RUNNERS.load(sys.argv[1])()
handle = runner.submit(source.job(wait=int(sys.argv[5])), source.logins(registry), "h-build-0")
runner.watch(handle, lambda line: line.strip() == {WAITS!r} and os.kill(os.getpid(), signal.SIGKILL))
"""


@pytest.mark.parametrize("name", sorted(RUNNERS))
def test_the_submitter_dies(name: str, source: Source, registry: Registry, jobs: Path) -> None:
    """Another process learns the job's result, or that it is lost; submitted again, it runs, and cleans up."""
    arguments = [name, source.url, source.commit, registry.host, "30"]
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(sys.path),
        "AIRFLOW__DELIVERY_CHAIN__WORK_FOLDER": os.environ["AIRFLOW__DELIVERY_CHAIN__WORK_FOLDER"],
        "AIRFLOW_HOME": str(jobs.parents[1]),
    }
    died = subprocess.run(
        [sys.executable, "-c", DYING, *arguments], env=env, input=PASSWORD, text=True, check=False
    )
    assert died.returncode == -signal.SIGKILL
    runner = RUNNERS.load(name)()
    found = runner.watch(Handle("h-build-0"), print)
    if isinstance(found, Failure):
        assert (found.error, found.retryable) == ("JobLost", True)
        handle = runner.submit(source.job(), source.logins(registry), "h-build-0")
        assert isinstance(runner.watch(handle, print), BuildDone)
    assert left(jobs) == []


def test_a_name_of_no_runner() -> None:
    """The error lists the existing ones."""
    with pytest.raises(ConfigurationError, match=f"'nomad': expected one of {', '.join(sorted(RUNNERS))}"):
        RUNNERS.load("nomad")()
