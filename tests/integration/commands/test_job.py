"""`delivery-chain job`, as runners start it: the job on standard input, its logins in a file, one line of result."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from delivery_chain.core.gate.findings import ScanReport
from delivery_chain.jobs.failure import Failure
from delivery_chain.jobs.job import BuildDone, ScanDone, ScanJob, result_from_json
from delivery_chain.jobs.logins import Logins
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.referrers import list_referrers
from delivery_chain.scanners.table import SCANNERS
from delivery_chain.tools.secret_files import passed_file
from support.builds import PASSWORD
from support.jobs import WAITS, Source
from support.scan_images import OLD, push_files
from support.scanner_benches import BENCHES

if TYPE_CHECKING:
    from delivery_chain.core.names.registry import Registry

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("buildah") is None, reason="needs root and buildah"),
]
WITHOUT_AIRFLOW = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "airflow":
            raise ImportError(f"a job imported {name}")
sys.meta_path.insert(0, Refuse())
from delivery_chain.commands.main import main
sys.exit(main())
"""
"""The command, with Airflow not importable, as in an image for jobs only."""


def start(work: Path, *arguments: str, logins: int | None = None) -> subprocess.Popen[bytes]:
    """Start the command, with only the locations of programs and modules in its environment."""
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(sys.path),
        "AIRFLOW__DELIVERY_CHAIN__WORK_FOLDER": str(work),
        "AIRFLOW__DELIVERY_CHAIN__TRIVY_CACHE_DIR": str(work.with_name("cache")),
    }
    passed = () if logins is None else (logins,)
    handed = () if logins is None else ("--logins", f"/dev/fd/{logins}")
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", WITHOUT_AIRFLOW, "job", *handed, *arguments]
    return subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe, stderr=pipe, pass_fds=passed)


def left(work: Path) -> list[str]:
    """Leftovers of jobs on this machine."""
    return [path.name for path in (work / str(os.geteuid()) / "jobs").iterdir()]


def test_a_build(tmp_path: Path, source: Source, registry: Registry) -> None:
    """The result is one line of JSON; the log has the build and no password; nothing is left. Airflow is not needed."""
    with (
        passed_file(source.logins(registry).to_json().decode()) as descriptor,
        start(tmp_path / "work", logins=descriptor) as process,
    ):
        out, log = process.communicate(source.job().model_dump_json().encode(), timeout=90)
    found = result_from_json(out)
    assert isinstance(found, BuildDone), (found, log)
    with RegistryClient(registry) as client:
        assert client.get_manifest("shop/api", "built").digest == found.digest
    assert (process.returncode, out.count(b"\n"), b"build of" in log) == (0, 1, True)
    assert (PASSWORD.encode() in out + log, left(tmp_path / "work")) == (False, [])


@pytest.mark.parametrize("name", sorted(SCANNERS))
def test_a_scan(tmp_path: Path, registry: Registry, name: str) -> None:
    """The same for each engine: the result names reports that the registry has next to the image."""
    with RegistryClient(registry) as client:
        bench = BENCHES[name](client, tmp_path / "job")
        digest = push_files(client, "shop/old", OLD)
    job = ScanJob(
        engine=name,
        options=bench.options.to_xcom(),
        registry="home",
        name="shop/old",
        digest=digest,
        platform="linux/amd64",
        seconds=90,
    )
    with (
        passed_file(Logins({"home": registry}).to_json().decode()) as descriptor,
        start(tmp_path / "work", logins=descriptor) as process,
    ):
        out, log = process.communicate(job.model_dump_json().encode(), timeout=120)
    found = result_from_json(out)
    assert isinstance(found, ScanDone), (found, log)
    with RegistryClient(registry) as client:
        report = ScanReport.model_validate_json(client.get_blob("shop/old", found.report))
        kept = [one.digest for one in list_referrers(client, "shop/old", digest)]
    assert (report.engine, report.digest, report.counts()) == (name, digest, found.counts)
    assert (found.referrer in kept, len(kept), sum(found.counts.values()) > 0) == (True, 2, True)
    assert (PASSWORD.encode() in out + log, left(tmp_path / "work")) == (False, [])


def test_sigterm_ends_it(tmp_path: Path, source: Source, registry: Registry) -> None:
    """A stopped container leaves no program and no file, and still reports what became of the job."""
    with (
        passed_file(source.logins(registry).to_json().decode()) as descriptor,
        start(tmp_path / "work", logins=descriptor) as process,
    ):
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(source.job(wait=4714).model_dump_json().encode())
        process.stdin.close()
        for line in process.stderr:
            if line.strip() == WAITS.encode():
                break
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        found = result_from_json(process.stdout.read())
        process.wait(30)
    assert isinstance(found, Failure)
    assert (found.error, found.retryable, process.returncode, left(tmp_path / "work")) == (
        "TaskStopped",
        True,
        1,
        [],
    )


def test_sigterm_before_it_was_read(tmp_path: Path) -> None:
    """A container that is stopped while its job is still to come ends at once, and says so."""
    with start(tmp_path / "work") as process:
        assert process.stderr is not None
        status = Path(f"/proc/{process.pid}/status")
        until = time.monotonic() + 60
        while not _catches_sigterm(status):
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        try:
            process.wait(20)
        finally:
            process.kill()
        found = result_from_json(process.stdout.read())
    assert isinstance(found, Failure)
    assert (found.error, process.returncode) == ("TaskStopped", 1)


def _catches_sigterm(status: Path) -> bool:
    caught = next(line for line in status.read_text("ascii").splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) & 1 << (signal.SIGTERM - 1))


def failing(tmp_path: Path, job: bytes, *arguments: str) -> Failure:
    with start(tmp_path / "work", *arguments) as process:
        out, _ = process.communicate(job, timeout=60)
    found = result_from_json(out)
    assert isinstance(found, Failure)
    assert process.returncode == 1
    return found


def test_a_job_without_its_logins(tmp_path: Path, source: Source) -> None:
    """The error says which login is missing."""
    found = failing(tmp_path, source.job().model_dump_json().encode())
    assert (found.error, found.message) == (
        "ConfigurationError",
        "job: expected the login of git source 'git_shop' among those handed in, found none",
    )


@pytest.mark.parametrize("data", [b"", b"{}", json.dumps({"kind": "deploy"}).encode()])
def test_what_is_no_job(tmp_path: Path, data: bytes) -> None:
    """The refusal is data, so that a runner need not parse the log."""
    assert failing(tmp_path, data).error == "UsageError"


def test_logins_that_can_not_be_read(tmp_path: Path, source: Source) -> None:
    """The error names the file, and what is wrong with it."""
    job = source.job().model_dump_json().encode()
    missing = failing(tmp_path, job, "--logins", str(tmp_path / "none"))
    (tmp_path / "other").write_text(Logins().to_json().decode() + "}")
    other = failing(tmp_path, job, "--logins", str(tmp_path / "other"))
    assert (missing.message, other.message.partition(",")[0]) == (
        f"--logins {tmp_path}/none: expected a readable file, found No such file or directory",
        "logins: expected JSON as a runner writes it",
    )
