"""The scan job: its input, the order of its steps, and its results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.core.gate.findings import REPORT_TYPE, ScanReport
from delivery_chain.errors import ConfigurationError, NotFound, UsageError
from delivery_chain.jobs.job import ScanDone, ScanJob, job_from_json, result_from_json
from delivery_chain.jobs.logins import Logins
from delivery_chain.jobs.run import Machine, run
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.referrers import list_referrers
from support.chain_steps import DATABASE, NAME, build_plan, push_platform
from support.oci_memory import memory_registry
from support.toy_scanner import RAW_TYPE, Toy, plug

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.oci_memory import MemoryRegistry

AMD64 = "linux/amd64"


@pytest.fixture
def home() -> Iterator[MemoryRegistry]:
    """The registry of the images."""
    with memory_registry() as held:
        yield held


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Toy:
    """An engine that finds nothing."""
    made = Toy(name="toy")
    plug(monkeypatch, made)
    return made


def job(image: str, **change: Any) -> ScanJob:
    known = {"engine": "toy", "options": {"depth": 3}, "registry": "home", "name": NAME, "digest": image}
    return ScanJob.model_validate(known | {"platform": AMD64, "seconds": 60} | change)


def done(home: MemoryRegistry, folder: Path, wanted: ScanJob, lines: list[str] | None = None) -> ScanDone:
    machine = Machine(folder, lambda section, option: None)
    result = run(wanted, Logins({"home": home.registry}), machine, ([] if lines is None else lines).append)
    assert isinstance(result, ScanDone)
    return result


def image(home: MemoryRegistry) -> str:
    with RegistryClient(home.registry) as client:
        return push_platform(client, build_plan(), AMD64)


def test_a_scan_is_json_both_ways(home: MemoryRegistry, toy: Toy, tmp_path: Path) -> None:
    """The job and its result; connections are named, nothing else of a login is in it."""
    wanted = job(image(home))
    result = done(home, tmp_path, wanted)
    assert job_from_json(wanted.model_dump_json().encode()) == wanted
    assert result_from_json(result.model_dump_json().encode()) == result
    assert (wanted.registries, wanted.sources) == (("home",), ())


def test_a_scan_leaves_both_reports_beside_the_image(home: MemoryRegistry, toy: Toy, tmp_path: Path) -> None:
    """The result names them by digest; the log says what was looked at and found."""
    lines: list[str] = []
    wanted = job(image(home))
    result = done(home, tmp_path, wanted, lines)
    with RegistryClient(home.registry) as client:
        kinds = {one.artifact_type: one.digest for one in list_referrers(client, NAME, wanted.digest)}
        report = ScanReport.model_validate_json(client.get_blob(NAME, result.report))
    assert (kinds[RAW_TYPE], set(kinds)) == (result.referrer, {RAW_TYPE, REPORT_TYPE})
    assert (report.engine, report.digest, report.databases) == ("toy", wanted.digest, (DATABASE,))
    assert lines == [
        "toy looked at linux/amd64: nothing that contains packages",
        f"toy on {wanted.digest[:19]} (linux/amd64): 0 critical, 0 high, 0 medium, 0 low, 0 unknown",
    ]


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"engine": "clair"}, ConfigurationError, "scan engine 'clair': expected one of "),
        ({"options": {"depth": "s3cret"}}, UsageError, "job: options of toy: depth: "),
        ({"options": {"cache": "/x"}}, UsageError, "job: options of toy: cache: "),
        ({"registry": "away"}, ConfigurationError, "the login of registry 'away'"),
        ({"digest": "sha256:" + "0" * 64}, NotFound, ""),
    ],
)
def test_what_can_not_be_scanned_is_refused_before_the_engine_begins(
    home: MemoryRegistry,
    toy: Toy,
    tmp_path: Path,
    change: dict[str, Any],
    kind: type[Exception],
    message: str,
) -> None:
    """No database is fetched for it; a message shows no value of an option."""
    with pytest.raises(kind) as caught:
        done(home, tmp_path, job(image(home), **change))
    assert (message in str(caught.value), "s3cret" in str(caught.value)) == (True, False)
    assert (toy.prepared, toy.asked) == ([], [])


def test_the_options_of_the_job_count(home: MemoryRegistry, toy: Toy, tmp_path: Path) -> None:
    """Not those of the machine that it runs on."""
    done(home, tmp_path, job(image(home)))
    assert [options.depth for options in toy.prepared] == [3]
