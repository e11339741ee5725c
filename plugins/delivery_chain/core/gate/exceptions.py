"""Apply the gate's exceptions: which findings a chain accepts, and which of its exceptions need attention.

They apply to each report's own findings, before reports are merged: the aliases that one engine reports can't excuse a
finding of another.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import date

    from delivery_chain.core.gate.findings import Finding, ScanReport
    from delivery_chain.core.spec.document import Complaint
    from delivery_chain.core.spec.model import ChainSpec
    from delivery_chain.core.spec.scan import GateException

SOON = timedelta(days=14)
"""Exceptions that end within this time are noted."""


@dataclass(frozen=True, slots=True)
class Sorted:
    """Reports, split by whether their findings count."""

    kept: tuple[ScanReport, ...]
    """Reports with the findings that count."""
    excused: tuple[ScanReport, ...]
    """Reports with the excused findings."""
    used: tuple[str, ...]
    """`CVE-… in pkg: reason (owner, until day)` for each finding that was excused."""
    notes: tuple[str, ...]
    """Exceptions that have ended, end soon, or matched nothing."""


def apply_exceptions(
    exceptions: Sequence[GateException], reports: Sequence[ScanReport], repository: str, today: date
) -> Sorted:
    """Separate the findings that count from those that the chain accepts.

    Args:
        exceptions: The chain's exceptions; those for another repository are ignored.
        reports: Reports of every engine and platform.
        repository: Repository without its namespace.
        today: Date in UTC; an exception holds through its last day.
    """
    ours = [entry for entry in exceptions if entry.repository in (None, repository)]
    valid = [entry for entry in ours if not _ended(entry, today)]
    used: dict[str, None] = {}
    met: set[int] = set()
    kept: list[ScanReport] = []
    excused: list[ScanReport] = []
    for report in reports:
        counting: list[Finding] = []
        accepted: list[Finding] = []
        for finding in report.findings:
            fitting = [number for number, entry in enumerate(valid) if fits(entry, finding)]
            met.update(fitting)
            (accepted if fitting else counting).append(finding)
            if fitting:
                used[_describe(valid[fitting[0]], finding)] = None
        kept.append(report.model_copy(update={"findings": tuple(counting)}))
        excused.append(report.model_copy(update={"findings": tuple(accepted)}))
    idle = [f"{_name(entry)} matched no finding" for number, entry in enumerate(valid) if number not in met]
    timed = [note for entry in ours if (note := timing(entry, today))]
    return Sorted(tuple(kept), tuple(excused), tuple(used), tuple(dict.fromkeys((*timed, *idle))))


def fits(entry: GateException, finding: Finding) -> bool:
    """Whether an exception matches a finding: by id or alias, ignoring case, and by package or source package."""
    return entry.id.lower() in finding.names and entry.package in (None, finding.package, finding.source)


def timing(entry: GateException, today: date) -> str:
    """Return a note if an exception has ended or ends soon; otherwise an empty string."""
    if entry.expires is None:
        return ""
    if _ended(entry, today):
        return f"{_name(entry)} ended on {entry.expires}"
    days = (entry.expires - today).days
    left = "today" if days == 0 else f"in {days} day{'' if days == 1 else 's'}"
    return f"{_name(entry)} ends on {entry.expires}, {left}" if entry.expires - today <= SOON else ""


def exception_warnings(spec: ChainSpec, today: date) -> Iterator[Complaint]:
    """Yield warnings, with their key paths, for exceptions of a spec that have ended or end soon."""
    for number, entry in enumerate(spec.scan.block.exceptions if spec.scan.block else ()):
        if note := timing(entry, today):
            yield ("scan", "block", "exceptions", number, "expires"), note


def _ended(entry: GateException, today: date) -> bool:
    return entry.expires is not None and today > entry.expires


def _name(entry: GateException) -> str:
    return f"the exception for {entry.id}{f' in {entry.package}' if entry.package else ''}"


def _describe(entry: GateException, finding: Finding) -> str:
    details = ", ".join(
        part for part in (entry.owner, f"until {entry.expires}" if entry.expires else "") if part
    )
    return f"{finding.id} in {finding.package}: {entry.reason}{f' ({details})' if details else ''}"
