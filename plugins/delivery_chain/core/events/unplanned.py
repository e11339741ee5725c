"""Describes runs without a plan. Until its run has a plan, a push may be lost, so it counts as a gap. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

PATIENCE = timedelta(minutes=5)
"""Time allowed, even on a busy machine, from the start of a run to the end of its first try of `plan`."""
REFUSALS = frozenset({"EventRefused", "UsageError"})
"""Errors with which `plan` refuses an event: a retry would fail again."""
AGAIN = frozenset({"up_for_retry", "restarting"})
OVER = frozenset({"failed", "upstream_failed", "removed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Unplanned:
    """The task `plan` of a run, if it has not succeeded."""

    chain: str
    run_id: str
    state: str
    """Airflow's state; empty if not scheduled yet."""
    tries: int
    since: datetime
    """End of the last try; the start of the run if no try has ended."""
    error: str = ""
    """Name of the error class that the task left as its reason."""

    def gap(self, now: datetime) -> str:
        """Describe the gap in one sentence, with the next step; empty if nothing is wrong."""
        waits = f"run {self.run_id} of {self.chain} has no plan yet, since {self.since:%Y-%m-%d %H:%M} UTC"
        if self.state in OVER:
            if self.error in REFUSALS:
                return ""
            return (
                f"run {self.run_id} of {self.chain} has no plan: its task `plan` has been {self.state} since "
                f"{self.since:%Y-%m-%d %H:%M} UTC. Fix the cause in its log, then clear `plan` and "
                "everything downstream"
            )
        if self.state in AGAIN or self.tries > 1:
            return f"{waits}: its task `plan` failed, and is retried automatically (try {max(1, self.tries)})"
        if now - self.since > PATIENCE:
            return f"{waits}: its task `plan` is {self.state or 'not scheduled'}"
        return ""
