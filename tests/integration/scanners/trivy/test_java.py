"""Java archives: their database is fetched when an image needs it, and cached like the other one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from delivery_chain.core.gate.findings import Database
from delivery_chain.errors import DatabaseUnavailable, ScanFailed
from delivery_chain.sandbox import vulndb
from support.oci_registry import free_port
from support.scan_images import CLEAN
from support.trivy_bench import BUILT, JAVA_DATABASE, LOG4J, Bench, jar

pytestmark = pytest.mark.integration

JAVA_IMAGE: dict[str, str | bytes] = {**CLEAN, "app/log4j-core-2.14.1.jar": LOG4J}


def facts(bench: Bench, *, stale: bool = False) -> Database:
    repository = f"{bench.registry.host}/{JAVA_DATABASE}:1"
    return Database(
        kind="Java database",
        repository=repository,
        updated_at=BUILT,
        sample=True,
        stale=stale,
        limit="[delivery_chain] trivy_java_db_max_age_hours",
        remedy="let the worker reach a newer one, or name a mirror in [delivery_chain] trivy_java_db_repository",
    )


def test_a_vulnerable_jar_is_found_on_a_fresh_worker(bench: Bench) -> None:
    """Without any manual command, the scan fetches what it needs, and the report names both databases."""
    report = bench.scan("demo/java", bench.push("demo/java", JAVA_IMAGE)).report

    assert [(one.id, one.aliases, one.package, one.location) for one in report.findings] == [
        (
            "CVE-2021-44228",
            ("GHSA-jfh8-c2jp-5v3q",),
            "org.apache.logging.log4j:log4j-core",
            "app/log4j-core-2.14.1.jar",
        )
    ]
    assert report.databases[1:] == (facts(bench),)


def test_an_image_without_jars_fetches_no_java_database(bench: Bench) -> None:
    """It is large, so it is fetched only for an image that needs it."""
    report = bench.scan("demo/clean", bench.push("demo/clean", CLEAN)).report

    assert (report.databases[1:], bench.downloads(), bench.downloads("java")) == ((), 1, 0)


def test_the_java_database_is_fetched_once_for_many_scans(bench: Bench) -> None:
    """Concurrent scans on a fresh worker wait for one download."""
    digest = bench.push("demo/java", JAVA_IMAGE)

    with ThreadPoolExecutor(3) as pool:
        reports = list(pool.map(lambda _: bench.scan("demo/java", digest).report, range(3)))

    assert reports == [reports[0]] * 3
    assert bench.downloads("java") == 1


def test_a_jar_without_a_name_fails_no_scan(bench: Bench) -> None:
    """The empty database does not know it; the report says that it was made with a sample."""
    report = bench.scan("demo/java", bench.push("demo/java", {**CLEAN, "a.jar": jar()})).report

    assert (report.findings, report.databases[1:]) == ((), (facts(bench),))


def test_an_old_java_database_is_stale(bench: Bench) -> None:
    """Its age is checked separately, by its own setting; the other database is current."""
    digest = bench.push("demo/java", JAVA_IMAGE)
    bench.now = BUILT + timedelta(hours=337)
    vulndb.publish_sample_database(bench.client, now=bench.now)

    report = bench.scan("demo/java", digest).report

    assert (report.database.stale, report.databases[1:]) == (False, (facts(bench, stale=True),))


def test_a_java_database_out_of_reach_is_worth_a_retry(bench: Bench) -> None:
    """The image does not pass meanwhile, and the error says what to set."""
    bench.options = bench.options.model_copy(
        update={"java_db_repository": f"127.0.0.1:{free_port()}/{JAVA_DATABASE}:1"}
    )
    digest = bench.push("demo/java", JAVA_IMAGE)

    with pytest.raises(
        DatabaseUnavailable, match=r"Java database: .*\[delivery_chain\] trivy_java_db_repository"
    ):
        bench.scan("demo/java", digest)


def test_a_damaged_java_database_is_fetched_again(bench: Bench) -> None:
    """Trivy itself treats an unreadable database as empty, without a warning."""
    digest = bench.push("demo/java", JAVA_IMAGE)
    bench.scan("demo/java", digest)
    (file,) = bench.cache.rglob("trivy-java.db")
    file.write_bytes(b"x" * file.stat().st_size)

    assert len(bench.scan("demo/java", digest).report.findings) == 1
    assert bench.downloads("java") == 2


@pytest.mark.parametrize("what", ["the other database", "no SQLite file"])
def test_a_java_database_that_is_none_is_named(bench: Bench, what: str) -> None:
    """A mirror with other content fails the scan, but not the worker."""
    wrong = (
        vulndb.database_layer(BUILT)
        if what == "the other database"
        else vulndb.java_layer(BUILT, b"x" * 9000)
    )
    bench.publish(wrong, java=True)
    digest = bench.push("demo/java", JAVA_IMAGE)

    with pytest.raises(ScanFailed, match="Java database"):
        bench.scan("demo/java", digest)
