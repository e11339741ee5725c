"""The real Trivy with real registries: its findings, failures, and their errors."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from delivery_chain.core.gate.coverage import Coverage, LanguagePackages
from delivery_chain.core.gate.findings import Database, ScanReport
from delivery_chain.errors import (
    ScanFailed,
    ToolMissing,
)
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.manifest import OCI_INDEX, build_index
from delivery_chain.sandbox import vulndb
from delivery_chain.scanners.trivy.command import find_trivy, wheel_of
from delivery_chain.scanners.trivy.scanner import REPORT_TYPE
from support.oci_registry import docker_registry
from support.oci_tls import make_certificates
from support.outdated_image import OLD_FINDINGS
from support.scan_images import CLEAN, NO_PACKAGES, OLD, push_hidden_layer
from support.trivy_bench import AMD64, BUILT, DATABASE, LOG4J, Bench
from support.trivy_cases import NO_DIGEST

pytestmark = pytest.mark.integration


def facts(bench: Bench, *, stale: bool = False) -> Database:
    return Database(
        kind="vulnerability database",
        repository=f"{bench.registry.host}/{DATABASE}:2",
        updated_at=BUILT,
        sample=True,
        stale=stale,
        limit="[delivery_chain] trivy_db_max_age_hours",
        remedy="let the worker reach a newer one, or name a mirror in [delivery_chain] trivy_db_repository",
    )


def test_an_outdated_image_gives_all_its_findings(bench: Bench) -> None:
    """Debian and Python packages, fixed and unfixed, worst first, with the database that has them."""
    digest = bench.push("demo/old", OLD)

    output = bench.scan("demo/old", digest)

    found = [(f.severity, f.id, f.package, f.installed, f.fixed) for f in output.report.findings]
    assert found == OLD_FINDINGS
    assert (output.report.digest, output.report.database) == (digest, facts(bench))
    assert (output.media_type, json.loads(output.raw)["SchemaVersion"]) == (REPORT_TYPE, 2)


@pytest.mark.parametrize(
    ("files", "coverage"),
    [
        (
            CLEAN,
            Coverage(
                os_family="debian",
                os_release="12.0",
                os_packages=1,
                languages=(LanguagePackages(type="python-pkg", files=1, packages=1),),
            ),
        ),
        (NO_PACKAGES, Coverage(root="no package database, no program")),
    ],
    ids=["up to date", "no packages"],
)
def test_a_clean_image_gives_an_empty_report(bench: Bench, files: dict[str, str], coverage: Coverage) -> None:
    """Fixed versions, or nothing that could be outdated, give a complete report without findings."""
    digest = bench.push("demo/clean", files)

    assert bench.scan("demo/clean", digest).report == ScanReport(
        engine="trivy",
        engine_version="0.76.0",
        digest=digest,
        platform=AMD64,
        databases=(facts(bench),),
        coverage=coverage,
    )


def test_trivy_finds_every_entry_of_the_sample_database(bench: Bench) -> None:
    """Each of its vulnerabilities is found in an image that has the package in an old version."""
    files: dict[str, str | bytes] = {"etc/debian_version": "12.0\n"}
    status = [
        f"Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 0.1-1\n"
        "Maintainer: nobody\nDescription: none\n"
        for name in ("apt", "glibc", "git", "gnutls28", "libtasn1-6", "perl", "xz-utils")
    ]
    files["var/lib/dpkg/status"] = "\n".join(status) + "\n"
    files["app/log4j.jar"] = LOG4J
    for name, version in (("Jinja2", "2.0"), ("PyYAML", "5.1"), ("requests", "2.3.0"), ("urllib3", "1.20")):
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        files[f"app/{name}-{version}.dist-info/METADATA"] = text
    for name in ("lodash", "minimist"):
        package = json.dumps({"name": name, "version": "0.1.0"})
        files[f"app/node_modules/{name}/package.json"] = package
    digest = bench.push("demo/all", files)

    found = {finding.id for finding in bench.scan("demo/all", digest).report.findings}

    assert found == set(vulndb.sample_ids())


@pytest.mark.parametrize(
    "platform",
    ["linux/s390x", "linux/ppc64le", "linux/riscv64", "linux/arm/v5", "linux/amd64/v3", "unknown/unknown"],
)
def test_an_image_of_any_platform_is_scanned_by_its_own_digest(bench: Bench, platform: str) -> None:
    """The findings do not depend on the platform, and the report is for the requested manifest."""
    digest = bench.push("demo/odd", OLD, platform)

    report = bench.scan("demo/odd", digest, platform=platform).report

    assert (report.digest, report.platform, len(report.findings)) == (digest, platform, 10)


def test_an_index_is_not_scanned_as_one_image(bench: Bench) -> None:
    """It would be unclear which of its images was scanned."""
    child = bench.client.get_manifest("demo/multi", bench.push("demo/multi", OLD)).descriptor()
    index = bench.client.put_manifest("demo/multi", "all", build_index((child,)), OCI_INDEX)

    with pytest.raises(ScanFailed, match="expected one image, found an index"):
        bench.scan("demo/multi", index)


@pytest.mark.parametrize(
    ("hidden", "message"),
    [
        ("not in the config", "its config lists 1 layers, its manifest 2"),
        ("twice the same in the config", "but the image's config says sha256:"),
        ("kept elsewhere", "1 of its layers are stored elsewhere"),
    ],
)
def test_an_image_with_a_layer_that_trivy_would_not_see_is_refused(
    tmp_path: Path, hidden: str, message: str
) -> None:
    """Podman unpacks what the manifest lists, but Trivy scans what the config lists."""
    folder = tmp_path / "registry"
    folder.mkdir()
    allow = {"manifests": {"urls": {"allow": ["^https://"]}}}
    with docker_registry(folder, validation=allow) as registry, RegistryClient(registry) as client:
        vulndb.publish_sample_database(client, now=BUILT)
        bench = Bench(client, tmp_path / "cache")
        digest = push_hidden_layer(client, "demo/hidden", CLEAN, OLD, how=hidden)

        with pytest.raises(ScanFailed) as caught:
            bench.scan("demo/hidden", digest)
    assert message in str(caught.value)


def test_a_registry_with_login_and_own_ca_is_scanned(tmp_path: Path) -> None:
    """Trivy gets user, password and CA, also for the database's mirror in the same registry."""
    ca, certificate, key = make_certificates(tmp_path)
    tls = {"certificate": str(certificate), "key": str(key)}
    folder = tmp_path / "registry"
    folder.mkdir()
    with docker_registry(folder, htpasswd=True, http={"tls": tls}) as found:
        registry = replace(found, ca_certificate=ca)
        with RegistryClient(registry) as client:
            vulndb.publish_sample_database(client, now=BUILT)
            bench = Bench(client, tmp_path / "cache")
            digest = bench.push("demo/old", OLD)

            assert len(bench.scan("demo/old", digest).report.findings) == 10
            assert not any(registry.password in line for line in bench.lines)


def test_scans_at_once_on_a_fresh_worker_all_work(bench: Bench) -> None:
    """One database, without a lock between scans."""
    digest = bench.push("demo/old", OLD)

    with ThreadPoolExecutor(4) as pool:
        reports = list(pool.map(lambda _: bench.scan("demo/old", digest).report, range(4)))

    assert reports == [reports[0]] * 4
    assert sum("successfully downloaded" in line for line in bench.lines) == 1
    # Trivy's own cache on disk would be a single lock for all scans.
    assert not list(bench.cache.rglob("fanal"))


def test_the_database_is_fetched_by_the_digest_that_was_looked_at(bench: Bench) -> None:
    """Between resolving the tag and downloading, the database can't be replaced by another one."""
    bench.database_file()

    head = bench.client.head_manifest(DATABASE, "2")
    assert head is not None
    downloaded = [line for line in bench.lines if "successfully downloaded" in line]
    assert downloaded[0].endswith(f'repo="{bench.registry.host}/{DATABASE}@{head.digest}"')


def test_a_stale_database_is_reported(bench: Bench) -> None:
    """The scan succeeds, and its report says that the database is stale."""
    digest = bench.push("demo/old", OLD)
    bench.now = BUILT + timedelta(hours=73)

    assert bench.scan("demo/old", digest).report.database == facts(bench, stale=True)


def test_a_new_database_in_the_mirror_is_picked_up(bench: Bench) -> None:
    """After its next update, the mirror is checked; an unchanged database is not downloaded again."""
    digest = bench.push("demo/old", OLD)
    bench.scan("demo/old", digest)
    bench.now = BUILT + timedelta(hours=25)
    bench.scan("demo/old", digest)
    later = BUILT + timedelta(hours=24)
    vulndb.publish_sample_database(bench.client, now=later)
    bench.now += timedelta(minutes=11)

    assert bench.scan("demo/old", digest).report.database.updated_at == later
    assert sum("successfully downloaded" in line for line in bench.lines) == 2


@pytest.mark.parametrize("damage", ["garbage", "pages", "cut"])
def test_a_damaged_database_is_fetched_again(bench: Bench, damage: str) -> None:
    """A database that Trivy can't read is replaced once, and the scan continues."""
    digest = bench.push("demo/old", OLD)
    file = bench.database_file()
    content = file.read_bytes()
    if damage == "garbage":
        file.write_bytes(b"x" * len(content))
    elif damage == "pages":
        file.write_bytes(content[:8192] + b"x" * (len(content) - 8192))
    else:
        file.write_bytes(content[:8192])

    assert len(bench.scan("demo/old", digest).report.findings) == 10


def test_the_log_says_that_trivy_is_not_its_makers(bench: Bench) -> None:
    """The wheel's Trivy, which these tests use, is named in every scan's log; it is used only if allowed."""
    program = find_trivy(wheel=True)
    wheel = wheel_of(program)
    if not wheel:
        pytest.skip("a Trivy of its makers is on PATH")
    digest = bench.push("demo/old", OLD)

    bench.scan("demo/old", digest)

    assert (
        bench.lines[0]
        == f"trivy: {program} is from the PyPI wheel {wheel}, not from its maintainers: use it in sandboxes only"
    )
    bench.options = bench.options.model_copy(update={"wheel": False})
    with pytest.raises(ToolMissing, match="which is for sandboxes"):
        bench.scan("demo/old", digest)


def test_an_old_trivy_first_on_the_path_is_named_at_the_start(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing is fetched and no image requested; the message has its path, its version and the minimum."""
    old = tmp_path / "trivy"
    old.write_text("#!/bin/sh\necho 'Version: 0.68.2'\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    with pytest.raises(
        ToolMissing, match=rf"{old}: expected Trivy 0\.69\.0 or newer, found 0\.68\.2; install it"
    ):
        bench.scan("demo/old", NO_DIGEST)

    assert bench.lines == []


def test_an_images_own_files_hide_nothing(bench: Bench) -> None:
    """A `.trivyignore` or `trivy.yaml` inside the image, or on the worker, changes no finding."""
    digest = bench.push(
        "demo/old", {**OLD, ".trivyignore": "CVE-2023-4911\n", "trivy.yaml": "severity: [LOW]"}
    )

    assert len(bench.scan("demo/old", digest).report.findings) == 10


def test_a_scan_leaves_no_files_behind(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Reports and unpacked layers are removed after the scan."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))

    bench.scan("demo/old", bench.push("demo/old", OLD))

    assert list(folder.iterdir()) == []
    assert Path(find_trivy(wheel=True)).is_file()
