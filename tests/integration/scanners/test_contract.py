"""The contract of scan engines: every engine in the table passes it, with a real registry that requires a login."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.core.names.registry import Registry
from delivery_chain.errors import (
    DatabaseUnavailable,
    NotFound,
    RegistryUnreachable,
    ScanFailed,
    ToolTimeout,
    Unauthorized,
)
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.manifest import OCI_INDEX, build_index
from delivery_chain.scanners.interface import ImageRef, ScanOutput
from delivery_chain.scanners.table import SCANNERS
from support.oci_registry import PASSWORD, docker_registry, free_port
from support.scan_images import CLEAN, OLD, push_files
from support.scanner_benches import BENCHES, ScannerBench
from support.sections import section

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from delivery_chain.scanners.interface import Options, Scanner

pytestmark = pytest.mark.integration

AMD64 = "linux/amd64"
NAME = "demo/image"


@dataclass
class Run:
    """One engine on its bench."""

    scanner: Scanner[Any, Any]
    bench: ScannerBench
    client: RegistryClient
    data: Path
    lines: list[str] = field(default_factory=list)

    def push(self, files: dict[str, str]) -> str:
        return push_files(self.client, NAME, files, platform=AMD64)

    def lose(self, digest: str) -> None:
        """Delete a blob's bytes from the registry, which still lists it."""
        [held] = self.data.rglob(f"blobs/sha256/*/{digest.removeprefix('sha256:')}/data")
        held.unlink()

    def prepare(self, options: Options | None = None, seconds: float = 60) -> Any:
        return self.scanner.prepare(
            options or self.bench.options, self.bench.workplace, seconds=seconds, log=self.lines.append
        )

    def scan(
        self, digest: str, ready: Any, *, registry: Registry | None = None, seconds: float = 60
    ) -> ScanOutput:
        image = ImageRef(registry or self.client.registry, NAME, digest)
        return self.scanner.scan(image, AMD64, ready, seconds=seconds, log=self.lines.append)


@pytest.fixture(params=sorted(SCANNERS))
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Run]:
    """One engine of the table."""
    for name in ("registry", "job"):
        (tmp_path / name).mkdir()
    with (
        docker_registry(tmp_path / "registry", htpasswd=True) as registry,
        RegistryClient(registry) as client,
    ):
        bench = BENCHES[request.param](client, tmp_path / "job")
        yield Run(SCANNERS.load(request.param)(), bench, client, tmp_path / "registry" / "data")


def test_a_report_is_full_and_about_that_digest(run: Run) -> None:
    """With findings, the engine's name and version, coverage, and fresh databases."""
    digest = run.push(OLD)
    output = run.scan(digest, run.prepare())
    report = output.report
    assert (report.engine, report.digest, report.platform) == (run.scanner.name, digest, AMD64)
    assert [database.stale for database in report.databases] == [False] * len(report.databases)
    assert "CVE-2023-4911" in {name for one in report.findings for name in (one.id, *one.aliases)}
    assert (report.coverage.os_family, report.coverage.gaps) == ("debian", ())
    assert all((report.engine_version, output.raw, output.media_type))


def test_nothing_found_is_a_report_too(run: Run) -> None:
    """Made with one preparation after another image; equal if it is repeated."""
    ready = run.prepare()
    run.scan(run.push(OLD), ready)
    digest = run.push(CLEAN)
    first, second = (run.scan(digest, ready).report for _ in range(2))
    assert (first.digest, first.findings) == (digest, ())
    assert first == second


@pytest.mark.parametrize("case", ["no such digest", "an index"])
def test_what_is_no_image_gives_no_report(run: Run, case: str) -> None:
    """A digest that does not exist, and an index, for which a report would cover only one of its images."""
    digest, kind = "sha256:" + "0" * 64, NotFound
    if case == "an index":
        child = run.client.get_manifest(NAME, run.push(CLEAN)).descriptor()
        digest, kind = run.client.put_manifest(NAME, "many", build_index([child]), OCI_INDEX), ScanFailed
    with pytest.raises(kind) as caught:
        run.scan(digest, run.prepare())
    assert not caught.value.retryable


def test_a_registry_out_of_reach_is_worth_a_retry(run: Run) -> None:
    """It is distinguished from a failed scan."""
    dead = Registry(f"127.0.0.1:{free_port()}", plain_http=True)
    with pytest.raises(RegistryUnreachable) as caught:
        run.scan(run.push(CLEAN), run.prepare(), registry=dead)
    assert caught.value.retryable


def test_a_stale_database_is_marked(run: Run) -> None:
    """The scan succeeds; the report says what is stale, which option decides that, and what to do."""
    report = run.scan(run.push(CLEAN), run.prepare(run.bench.strict)).report
    stale = [database for database in report.databases if database.stale]
    assert stale
    assert all(database.kind and database.limit and database.remedy for database in stale)


def test_the_seconds_of_a_scan_count(run: Run) -> None:
    """After that time, no report is made."""
    digest, ready = run.push(OLD), run.prepare()
    with pytest.raises(ToolTimeout):
        run.scan(digest, ready, seconds=0.005)


def test_the_seconds_of_a_preparation_count(run: Run) -> None:
    """A database that does not arrive in time is an error."""
    with pytest.raises((ToolTimeout, DatabaseUnavailable)):
        run.prepare(seconds=0.005)


def test_nothing_is_left_in_the_jobs_folder(run: Run) -> None:
    """Reports and unpacked layers are removed, even after a failed scan."""
    ready = run.prepare()
    run.scan(run.push(OLD), ready)
    broken = run.push(CLEAN)
    *_, layer = run.client.get_manifest(NAME, broken).blobs
    run.lose(layer.digest)
    with pytest.raises((NotFound, ScanFailed)):
        run.scan(broken, ready)
    assert list(run.bench.workplace.folder.iterdir()) == []


def test_a_password_is_shown_nowhere(run: Run) -> None:
    """Neither in the log, nor in the repr of the port's values, nor in an error."""
    digest, ready = run.push(OLD), run.prepare()
    output = run.scan(digest, ready)
    image = ImageRef(run.client.registry, NAME, digest)
    wrong = Registry(run.client.registry.host, "robot", "wr0ng-pass", plain_http=True)
    with pytest.raises(Unauthorized) as caught:
        run.scan(digest, ready, registry=wrong)
    shown = "\n".join(
        [*run.lines, *map(repr, (image, run.bench.workplace, ready, output)), str(caught.value)]
    )
    assert [secret for secret in (PASSWORD, "wr0ng-pass") if secret in shown] == []
    assert PASSWORD.encode() not in output.raw


def test_options_are_json_both_ways(run: Run) -> None:
    """A job on another machine gets exactly what was read from the section."""
    kind, options = run.scanner.options, run.bench.options
    assert kind.read(section(**run.bench.settings)) == options
    assert kind.model_validate_json(options.model_dump_json()) == options
    assert kind.from_xcom(options.to_xcom()) == options


def test_the_checks_of_doctor_say_what_they_find(run: Run) -> None:
    """With a fresh database in the cache, they report no problem."""
    run.prepare()
    found = {**run.bench.settings}
    where = run.bench.workplace.section

    def get(name: str, option: str) -> str | None:
        return found.get(option) or where.get(name, option)

    lines = [line for check in run.scanner.checks(type(where)(get)) for line in check.ask()]
    assert {line.level.value for line in lines} == {"ok"}
