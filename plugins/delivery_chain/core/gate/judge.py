"""Turn scan reports and a block policy into a verdict: the gate. It fails closed, and the verdict gives the reasons."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from delivery_chain.core.gate.completeness import check_complete
from delivery_chain.core.gate.coverage import Gap
from delivery_chain.core.gate.exceptions import apply_exceptions
from delivery_chain.core.gate.findings import Finding, ScanReport, Severity, count_by_severity
from delivery_chain.core.gate.merge import merge
from delivery_chain.core.names.reference import short_digest
from delivery_chain.core.spec.scan import Artifacts, Block, Clause, Logic, Scan
from delivery_chain.core.value import Value
from delivery_chain.errors import ScanFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from delivery_chain.core.results import Image

MOST_DECIDING = 20
"""Maximum number of findings that a verdict names; the full reports are in the registry."""
MOST_NOTES = 50
"""Maximum number of exceptions, and of notes, that a verdict names."""


class Hit(Value):
    """A part of a clause that findings met."""

    clause: str
    """Description: `findings at or above high (limit 1)`."""
    count: int
    """Findings that met it."""

    @property
    def sentence(self) -> str:
        """`3 findings at or above high (limit 1)`."""
        clause = self.clause.replace("findings", "finding", 1) if self.count == 1 else self.clause
        return f"{self.count} {clause}"


class Verdict(Value):
    """The gate's decision on exactly one digest."""

    digest: str
    passed: bool
    judged_at: datetime
    judged: str = ""
    """Fingerprint of the plan, the image and the scans that it was made from."""
    counts: dict[str, int] = {}
    """Findings per severity over all platforms and engines, without excepted ones."""
    accepted: dict[str, int] = {}
    """Findings per severity that don't count only because of the chain's exceptions."""
    hits: tuple[Hit, ...] = ()
    deciding: tuple[Finding, ...] = ()
    """Findings that met a clause, worst first, at most 20."""
    excepted: tuple[str, ...] = ()
    """Exceptions that were used: `CVE-… in pkg: reason (owner, until day)`, at most 50."""
    notes: tuple[str, ...] = ()
    """Caveats: a sample or stale database, parts not scanned, no scan, no policy, exceptions that have ended or matched
    nothing."""
    looked_at: tuple[str, ...] = ()
    """Per report: `linux/amd64: debian 12.0 with 88 packages`."""

    @property
    def sentence(self) -> str:
        """`passed with 2 low; 5 high accepted by exceptions` or `blocked: 3 findings at or above high (limit 1)`."""
        if not self.passed:
            return "blocked: " + "; ".join(hit.sentence for hit in self.hits)
        if not self.counts:
            return "passed without a scan"
        found, accepted = _in_words(self.counts), _in_words(self.accepted)
        if accepted:
            return f"passed{f' with {found}' if found else ''}; {accepted} accepted by exceptions"
        return f"passed with {found or 'no findings'}"


def _in_words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {severity}" for severity, count in counts.items() if count)


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
        reports: Reports of every engine and platform.
        digest: The image, an index or a single manifest.
        images: All images under it; for a single manifest, itself.
        repository: Repository without the namespace, for exceptions.
        now: Time in UTC, for grace periods, expiry and the verdict's time.

    Raises:
        ScanFailed: A report is missing, is about another image, or has a gap (a stale database, a part not scanned)
            that the spec does not accept by name. The image then never passes, whether or not the chain has a policy.
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
                "not scanned: not an image but an artifact, which the chain copies (scan.artifacts: copy)",
            ),
        )
    check_complete(scan.engine, reports, images)
    reports = sorted(reports, key=lambda report: (report.platform, report.engine, report.digest))
    notes = [*_samples(reports), *_accepted_gaps(scan, reports)]
    block = scan.block
    sorted_out = apply_exceptions(block.exceptions if block else (), reports, repository, now.date())
    findings = merge(sorted_out.kept)
    notes += sorted_out.notes
    if block is None:
        notes.append("nothing blocks: the chain has no scan.block")
    met = [part for clause in (block.clauses if block else ()) for part in _met(clause, findings, now)]
    deciding = {id(finding) for _, found in met for finding in found}
    return Verdict(
        digest=digest,
        passed=not met,
        judged_at=now,
        counts=count_by_severity(findings),
        accepted=_excused_counts(merge(sorted_out.excused), findings),
        hits=tuple(hit for hit, _ in met),
        deciding=tuple(finding for finding in findings if id(finding) in deciding)[:MOST_DECIDING],
        excepted=_at_most(sorted_out.used),
        notes=_at_most(tuple(dict.fromkeys(notes))),
        looked_at=tuple(f"{report.platform}: {report.coverage.sentence}" for report in reports),
    )


def _at_most(lines: tuple[str, ...]) -> tuple[str, ...]:
    more = len(lines) - MOST_NOTES
    return lines if more <= 0 else (*lines[:MOST_NOTES], f"and {more} more")


def _samples(reports: Sequence[ScanReport]) -> Iterable[str]:
    for database in (found for report in reports for found in report.databases):
        if database.sample:
            yield f"scanned with the sample database {database.repository}: it knows few vulnerabilities, a pass proves nothing"  # noqa: E501 - a message


def _accepted_gaps(scan: Scan, reports: Sequence[ScanReport]) -> list[str]:
    """Return a note for each gap that the chain accepts.

    Raises:
        ScanFailed: The chain does not accept all gaps; the message names those that it does not.
    """
    found = dict.fromkeys(gap for report in reports for gap in _gaps(report))
    refused = [one for one in found if one.gap not in scan.accept]
    if not refused:
        return [f"{one.where}; accepted by the chain ({one.gap.value})" for one in found]
    refused.sort(key=lambda one: list(Gap).index(one.gap))
    lines = "".join(f"\n    {one.gap.value}: {one.where}" for one in found if one in refused)
    words = ", ".join(dict.fromkeys(one.gap.value for one in refused))
    raise ScanFailed(
        f"the scan missed parts of the image, so it does not pass:{lines}\n"
        f"Next: {'; '.join(dict.fromkeys(one.remedy for one in refused))}. Or accept the risk for this chain, in its "
        f"scan section: `accept: [{words}]`; docs/chain-spec.md explains each"
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """A gap in one report."""

    gap: Gap
    where: str
    remedy: str


def _gaps(report: ScanReport) -> Iterator[_Found]:
    for database in report.databases:
        if database.stale:
            yield _Found(
                Gap.STALE_DATABASE,
                f"the {database.kind or 'database'} {database.repository} was built on "
                f"{database.updated_at:%Y-%m-%d %H:%M} UTC, older than {database.limit or 'this installation'} allows",
                database.remedy or Gap.STALE_DATABASE.remedy,
            )
    where = f"{report.platform} ({short_digest(report.digest)})"
    for gap in report.coverage.gaps:
        yield _Found(gap, f"{where} {gap.problem}: {report.coverage.sentence}", gap.remedy)


def _excused_counts(excused: Sequence[Finding], findings: Sequence[Finding]) -> dict[str, int]:
    """Count excused findings per severity, without those that another report counts anyway; empty if none."""
    counted = {
        (finding.package, finding.installed, finding.location, finding.id.lower()) for finding in findings
    }
    alone = [
        finding
        for finding in excused
        if (finding.package, finding.installed, finding.location, finding.id.lower()) not in counted
    ]
    return count_by_severity(alone) if alone else {}


def _met(clause: Clause, findings: Sequence[Finding], now: datetime) -> list[tuple[Hit, list[Finding]]]:
    """Return the parts of a clause that are met, each with the findings that met it."""
    counted = [finding for finding in findings if _counts(clause, finding, now)]
    wanted = {name.lower() for name in clause.findings}
    met = []
    for part in _parts(clause):
        if part.listed:
            found = [finding for finding in findings if finding.names & wanted]
        else:
            found = [
                finding for finding in counted if part.level is None or finding.severity.at_least(part.level)
            ]
        if len(found) >= part.limit:
            met.append((Hit(clause=part.text, count=len(found)), found))
    return met


def _counts(clause: Clause, finding: Finding, now: datetime) -> bool:
    if clause.fixable and not finding.fixable:
        return False
    # A finding of unknown publication counts. One dated in the future, by this clock, counts as published today.
    return finding.published is None or now - min(finding.published, now) >= timedelta(days=clause.grace_days)


@dataclass(frozen=True, slots=True)
class _Part:
    """One reason why a clause blocks: listed findings, findings at or above a level, or findings in all."""

    text: str
    limit: int
    level: Severity | None = None
    listed: bool = False


def _parts(clause: Clause | Block) -> Iterator[_Part]:
    what = "fixable findings" if clause.fixable else "findings"
    grace = f" published {clause.grace_days} or more days ago" if clause.grace_days else ""
    if clause.severity is not None:
        level = clause.severity
        bound = "of any severity" if level is Severity.UNKNOWN else f"at or above {level.value}"
        limit = clause.count if clause.logic is Logic.AND else 1
        yield _Part(f"{what} {bound}{grace} (limit {limit})", limit, level)
        if clause.logic is Logic.OR:
            yield _Part(f"{what} in all{grace} (limit {clause.count})", clause.count)
    if clause.findings:
        yield _Part("findings among " + ", ".join(clause.findings), 1, listed=True)


def describe(clause: Clause | Block) -> str:
    """Describe a clause: `fixable findings at or above high (limit 1)`."""
    return " or ".join(part.text for part in _parts(clause))
