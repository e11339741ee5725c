"""The page of a run: how it ended, its verdict, its image and every finding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from delivery_chain.core.run.state import FINE, End, changed
from delivery_chain.web.pages import rendering

if TYPE_CHECKING:
    from delivery_chain.core.gate.findings import ScanReport
    from delivery_chain.core.gate.judge import Verdict
    from delivery_chain.core.plan import Plan
    from delivery_chain.core.results import Quarantined, RegionResult, Subject
    from delivery_chain.core.run.state import Outcome

MOST_FINDINGS = 2000
"""Rows of one report; the rest is counted."""
KINDS = {
    End.DELIVERED: "passed",
    End.BLOCKED: "blocked",
    End.SUPERSEDED: "",
    End.BUILT: "",
    End.IGNORED: "",
    End.WAITING: "waiting",
    End.RUNNING: "waiting",
}
"""The colour of each end; all others are failures, which a blocked run is not: there the chain did its work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What a run left behind; None where it did not get that far."""

    chain: str
    run_id: str
    outcome: Outcome
    """How it ended, or where it is."""
    altered: tuple[str, ...]
    """Tasks whose XCom is not what they left; nothing of theirs is shown."""
    plan: Plan | None
    subject: Subject | None
    verdict: Verdict | None
    quarantined: Quarantined | None
    regions: tuple[RegionResult, ...]
    reports: tuple[ScanReport, ...]
    missing: str
    """Why a report could not be read, empty if all could."""
    version: str = ""
    """Of the spec that the run was planned with."""


def render(facts: RunFacts, *, up: str = "") -> str:
    """The page.

    Args:
        facts: What is shown.
        up: See `rendering.up`.
    """
    found = facts.outcome
    kind = KINDS.get(found.end, "failed")
    if not found.good and found.end in FINE:
        # Of a good end that somebody marked as failed by hand.
        kind = "failed"
    return rendering.render(
        "run.html",
        facts=facts,
        up=up,
        kind=kind,
        ended=found.sentence[:1].upper() + found.sentence[1:],
        altered=changed(facts.altered) if facts.altered else "",
        most_findings=MOST_FINDINGS,
    )
