"""Renders a finished run as a table: each step with its state, duration and result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from delivery_chain.core.gate.judge import Verdict
from delivery_chain.core.names.reference import short_digest
from delivery_chain.core.results import (
    BuildResult,
    DeliveryResult,
    Published,
    Quarantined,
    Record,
    RegionResult,
    Scanned,
    ScanResult,
    Subject,
)
from delivery_chain.core.seal import unproven
from delivery_chain.core.steps import STEPS, Step
from delivery_chain.sandbox.console import seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from delivery_chain.sandbox.runs import Instance


def rows(instances: Sequence[Instance], values: Mapping[tuple[str, int], Any]) -> list[tuple[str, ...]]:
    """Return the record's rows, the header first.

    Mapped instances without a label never ran, and share one row.

    Args:
        instances: Task instances of one run.
        values: XComs by task and map index, for the instances that pushed one.
    """
    found: list[tuple[str, ...]] = [("step", "state", "time", "result")]
    shown = [one for one in instances if one.task in STEPS]
    for one in {(one.task, one.label or one.state): one for one in shown}.values():
        name = f"{one.task} {one.label}".rstrip()
        time = seconds(one.seconds) if one.seconds is not None and one.state != "skipped" else ""
        found.append((name, one.state or "-", time, result(one.task, values.get((one.task, one.index)))))
    return found


def result(task: str, value: Any) -> str:
    """Summarize a step's XCom in a few words; empty for a step without one."""
    return _WORDS[task](unproven(value)) if task in _WORDS and value is not None else ""


def deciding(values: Mapping[tuple[str, int], Any]) -> list[str]:
    """One line for each finding that blocked the run."""
    value = values.get((Step.GATE, -1))
    return [finding.line for finding in Verdict.from_xcom(unproven(value)).deciding] if value else []


def _scan(value: Any) -> str:
    scans = Scanned.from_xcom(value).results
    return "; ".join(f"{short_digest(scan.digest)}: {_counts(scan) or 'no findings'}" for scan in scans)


def _counts(scan: ScanResult) -> str:
    return ", ".join(f"{count} {severity}" for severity, count in scan.counts.items() if count)


def _publish(value: Any) -> str:
    published = Published.from_xcom(value)
    moves = ", ".join(f"{move.tag} {move.state}" for move in published.tags)
    return f"{short_digest(published.digest)}: {moves}"


def _replicate(value: Any) -> str:
    region = RegionResult.from_xcom(value)
    moves = ", ".join(f"{move.tag} {move.state}" for move in region.tags)
    return f"{short_digest(region.digest)} in {region.region}: {moves}; {region.copied} blobs sent"


def _distribute(value: Any) -> str:
    delivery = DeliveryResult.from_xcom(value)
    statuses = ", ".join(str(attempt.status or attempt.answer) for attempt in delivery.attempts)
    return f"{', '.join(delivery.delivered)}: {statuses}"


_WORDS: dict[str, Callable[[Any], str]] = {
    Step.BUILD: lambda value: short_digest(BuildResult.from_xcom(value).digest),
    Step.ASSEMBLE: lambda value: short_digest(Subject.from_xcom(value).digest),
    Step.SCAN: _scan,
    Step.GATE: lambda value: Verdict.from_xcom(value).sentence,
    Step.PUBLISH: _publish,
    Step.QUARANTINE: lambda value: Quarantined.from_xcom(value).backup,
    Step.REPLICATE: _replicate,
    Step.DISTRIBUTE: _distribute,
    Step.REPORT: lambda value: Record.from_xcom(value).sentence,
}
