"""Renders the page of a run: outcome, verdict, image and every finding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from delivery_chain.core.run.end import FINE, End
from delivery_chain.core.run.state import changed
from delivery_chain.web.pages import rendering

if TYPE_CHECKING:
    from delivery_chain.core.gate.findings import ScanReport
    from delivery_chain.core.gate.judge import Verdict
    from delivery_chain.core.plan import Plan
    from delivery_chain.core.results import Quarantined, RegionResult, Subject
    from delivery_chain.core.run.state import Outcome

MOST_FINDINGS = 2000
"""Maximum number of rows per report; the rest is only counted."""
KINDS = {
    End.DELIVERED: "passed",
    End.BLOCKED: "blocked",
    End.SUPERSEDED: "",
    End.BUILT: "",
    End.IGNORED: "",
    End.WAITING: "waiting",
    End.RUNNING: "waiting",
}
"""CSS class of each end; all others are failures. A blocked run is not a failure: the chain did its job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """The facts of a run; None for results of steps that the run did not reach."""

    chain: str
    run_id: str
    outcome: Outcome
    """The run's end, or its progress so far."""
    altered: tuple[str, ...]
    """Tasks whose XComs were altered; their results are not shown."""
    plan: Plan | None
    subject: Subject | None
    verdict: Verdict | None
    quarantined: Quarantined | None
    regions: tuple[RegionResult, ...]
    reports: tuple[ScanReport, ...]
    missing: str
    """Reason why a report could not be read; empty if all could."""
    version: str = ""
    """Version of the spec that the run was planned with."""


def render(facts: RunFacts, *, up: str = "") -> str:
    """Render the page.

    Args:
        facts: Facts to show.
        up: See `rendering.up`.
    """
    found = facts.outcome
    kind = KINDS.get(found.end, "failed")
    if not found.good and found.end in FINE:
        # The run ended well, but a user marked it as failed.
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
