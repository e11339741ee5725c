"""The gate: scan reports and a block policy to a verdict. It fails closed and explains itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from delivery_chain.core.completeness import check_complete
from delivery_chain.core.findings import Finding, ScanReport, Severity, count_by_severity, worst_first
from delivery_chain.core.spec_scan import Accept, Artifacts, Block, Clause, GateException, Logic, Scan
from delivery_chain.core.value import Value
from delivery_chain.errors import ScanFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from delivery_chain.core.results import Image

MOST_DECIDING = 20
"""Findings that a verdict names; the full reports are in the registry."""


class Hit(Value):
    """A clause that was met."""

    clause: str
    """For people: `findings at or above high (limit 1)`."""
    count: int
    """Findings that met it."""

    @property
    def sentence(self) -> str:
        """`3 findings at or above high (limit 1)`."""
        clause = self.clause.replace("findings", "finding", 1) if self.count == 1 else self.clause
        return f"{self.count} {clause}"


class Verdict(Value):
    """What the gate says about exactly one digest."""

    digest: str
    passed: bool
    judged_at: datetime
    counts: dict[str, int] = {}
    """Findings per severity over all platforms and engines, exceptions left out."""
    hits: tuple[Hit, ...] = ()
    deciding: tuple[Finding, ...] = ()
    """Findings that met a clause, worst first, at most 20."""
    excepted: tuple[str, ...] = ()
    """Exceptions that were used: `CVE-… in pkg: reason (owner, until day)`."""
    notes: tuple[str, ...] = ()
    """What a reader has to know: a sample or stale database, no scan, no policy, expired exceptions."""

    @property
    def sentence(self) -> str:
        """`passed with 2 low` or `blocked: 3 findings at or above high (limit 1)`."""
        if not self.passed:
            return "blocked: " + "; ".join(hit.sentence for hit in self.hits)
        if not self.counts:
            return "passed without a scan"
        found = ", ".join(f"{count} {severity}" for severity, count in self.counts.items() if count)
        return f"passed with {found or 'no findings'}"


def judge(
    scan: Scan,
    reports: Sequence[ScanReport],
    *,
    digest: str,
    images: Sequence[Image],
    repository: str,
    now: datetime,
) -> Verdict:
    """Judge all reports of an image together.

    Args:
        scan: The spec's scan section.
        reports: Of every engine and platform.
        digest: The image, an index or a single manifest.
        images: All that are below it; for a single manifest itself.
        repository: Without the namespace, for exceptions.
        now: UTC; decides on grace, expiry and the verdict's time.

    Raises:
        ScanFailed: A report is missing, is about another image, or is made with a stale database that the spec
            does not accept by name. That is never a pass.
    """
    if not scan.enabled:
        return Verdict(
            digest=digest,
            passed=True,
            judged_at=now,
            notes=("not scanned: the chain has scan.enabled: false",),
        )
    if not images and scan.artifacts is Artifacts.COPY:
        return Verdict(
            digest=digest,
            passed=True,
            judged_at=now,
            notes=(
                "not scanned: it is no image but an artifact, which the chain passes on (scan.artifacts: copy)",
            ),
        )
    check_complete(scan.engine, reports, images)
    notes = list(_databases(scan, reports))
    block = scan.block
    findings, excepted, expired = _apply_exceptions(
        block.exceptions if block else (), reports, repository, now
    )
    notes += expired
    if block is None:
        notes.append("nothing blocks: the chain has no scan.block")
    hits = [
        (clause, met) for clause in (block.clauses if block else ()) if (met := _met(clause, findings, now))
    ]
    return Verdict(
        digest=digest,
        passed=not hits,
        judged_at=now,
        counts=count_by_severity(findings),
        hits=tuple(Hit(clause=describe(clause), count=len(met)) for clause, met in hits),
        deciding=worst_first({_key(finding): finding for _, met in hits for finding in met}.values())[
            :MOST_DECIDING
        ],
        excepted=tuple(dict.fromkeys(excepted)),
        notes=tuple(dict.fromkeys(notes)),
    )


def _key(finding: Finding) -> tuple[str, ...]:
    """One vulnerable package is one finding, on however many platforms."""
    return (finding.id, finding.package, finding.installed, finding.location)


def _databases(scan: Scan, reports: Sequence[ScanReport]) -> Iterable[str]:
    for report in reports:
        database = report.database
        if database.sample:
            yield f"scanned with the sample database {database.repository}: it knows few vulnerabilities, a pass proves nothing"  # noqa: E501 - a message
        if not database.stale:
            continue
        age = (
            f"the vulnerability database {database.repository} is of {database.updated_at:%Y-%m-%d %H:%M} UTC"
        )
        if Accept.STALE_DATABASE not in scan.accept:
            raise ScanFailed(
                f"{age}, older than [delivery_chain] trivy_db_max_age_hours allows, so the image does not pass: let the "  # noqa: E501 - a message
                f"worker reach it or name a mirror in trivy_db_repository, or accept it with `accept: [stale_database]`"
            )
        yield f"{age}: stale, accepted by the chain"


def _apply_exceptions(
    exceptions: Sequence[GateException], reports: Sequence[ScanReport], repository: str, now: datetime
) -> tuple[list[Finding], list[str], list[str]]:
    kept: list[Finding] = []
    used: list[str] = []
    expired: list[str] = []
    for finding in (finding for report in reports for finding in report.findings):
        fitting = [entry for entry in exceptions if _fits(entry, finding, repository)]
        valid = [entry for entry in fitting if not entry.expires or now.date() <= entry.expires]
        if valid:
            used.append(_describe_exception(valid[0], finding))
            continue
        expired += [f"the exception for {entry.id} ended on {entry.expires}" for entry in fitting]
        kept.append(finding)
    return list({_key(finding): finding for finding in kept}.values()), used, expired


def _fits(entry: GateException, finding: Finding, repository: str) -> bool:
    return (
        entry.id == finding.id
        and entry.package in (None, finding.package)
        and entry.repository in (None, repository)
    )


def _describe_exception(entry: GateException, finding: Finding) -> str:
    details = ", ".join(
        part for part in (entry.owner, f"until {entry.expires}" if entry.expires else "") if part
    )
    return f"{finding.id} in {finding.package}: {entry.reason}{f' ({details})' if details else ''}"


def _met(clause: Clause, findings: Sequence[Finding], now: datetime) -> list[Finding]:
    """The findings that meet a clause; none if it is not met."""
    listed = [finding for finding in findings if finding.id in clause.findings]
    if clause.severity is None:
        return listed
    counted = [finding for finding in findings if _counts(clause, finding, now)]
    severe = [finding for finding in counted if finding.severity.at_least(clause.severity)]
    if clause.logic is Logic.AND:
        met = severe if len(severe) >= clause.count else []
    else:
        met = counted if len(counted) >= clause.count else severe
    return [*listed, *(finding for finding in met if finding not in listed)]


def _counts(clause: Clause, finding: Finding, now: datetime) -> bool:
    if clause.fixable and not finding.fixable:
        return False
    if not clause.grace_days or finding.published is None:
        return True
    published = finding.published if finding.published.tzinfo else finding.published.replace(tzinfo=UTC)
    return now - published >= timedelta(days=clause.grace_days)


def describe(clause: Clause | Block) -> str:
    """A clause as a person would say it: `fixable findings at or above high (limit 1)`."""
    parts = []
    if clause.severity is not None:
        what = "fixable findings" if clause.fixable else "findings"
        grace = f" published {clause.grace_days} or more days ago" if clause.grace_days else ""
        level = (
            "of any severity"
            if clause.severity is Severity.UNKNOWN
            else f"at or above {clause.severity.value}"
        )
        limit = f"limit {clause.count}" if clause.logic is Logic.AND else f"limit 1, or {clause.count} in all"
        parts.append(f"{what} {level}{grace} ({limit})")
    if clause.findings:
        parts.append("findings among " + ", ".join(clause.findings))
    return " or ".join(parts)
