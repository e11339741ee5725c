"""Findings, reports and verdicts for tests of the gate."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from delivery_chain.core.gate.coverage import Coverage
from delivery_chain.core.gate.findings import Database, Finding, ScanReport, worst_first
from delivery_chain.core.gate.judge import Verdict, judge
from delivery_chain.core.results import Image
from delivery_chain.core.spec.scan import Scan

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = datetime(2026, 5, 20, 12, 0, tzinfo=UTC)
INDEX, AMD, ARM = ("sha256:" + letter * 64 for letter in "abc")
DATABASE = Database(
    kind="vulnerability database",
    repository="example.org/db:2",
    updated_at=NOW - timedelta(hours=5),
    limit="[delivery_chain] some_max_age_hours",
    remedy="let the worker reach a newer one, or name a mirror in [delivery_chain] some_repository",
)
STALE = "database example.org/db:2 was built on 2026-05-20 07:00 UTC, older than [delivery_chain]"
"""Note about `DATABASE` once it is too old."""
IMAGE = Image(digest=AMD, platform="linux/amd64")
SEEN = Coverage(os_family="debian", os_release="12.0", os_packages=88)


def finding(name: str = "CVE-2026-0001", severity: str = "high", **fields: Any) -> Finding:
    return Finding(**({"id": name, "severity": severity, "package": "openssl", "installed": "1.0"} | fields))


def report(
    *findings: Finding,
    platform: str = "linux/amd64",
    digest: str = AMD,
    engine: str = "trivy",
    coverage: Coverage = SEEN,
    java: Database | None = None,
    **database: Any,
) -> ScanReport:
    return ScanReport(
        engine=engine,
        engine_version="0.1",
        digest=digest,
        platform=platform,
        databases=(DATABASE.model_copy(update=database), *((java,) if java else ())),
        coverage=coverage,
        findings=worst_first(findings),
    )


def judged(scan: dict[str, Any], reports: Sequence[ScanReport], *, repository: str = "api") -> Verdict:
    """The verdict on an image with one or more reports per platform."""
    return judge(
        Scan.model_validate(scan),
        reports,
        digest=INDEX,
        images=tuple(
            {one.digest: Image(digest=one.digest, platform=one.platform) for one in reports}.values()
        ),
        repository=repository,
        now=NOW,
    )


def verdict(scan: dict[str, Any], *findings: Finding, repository: str = "api") -> Verdict:
    """Judge `IMAGE` with these findings."""
    return judge(
        Scan.model_validate(scan),
        [report(*findings)],
        digest=AMD,
        images=[IMAGE],
        repository=repository,
        now=NOW,
    )


def blocks(block: dict[str, Any], *findings: Finding) -> bool:
    """Whether a blocking rule refuses `IMAGE` for these findings."""
    return not verdict({"block": block}, *findings).passed


CRITICAL, LOW = finding("C-1", "critical"), finding("L-1", "low")
HIGH = finding("H-1", "high", aliases=("GHSA-aaaa-bbbb-cccc",), source="openssl-src")
