"""Runs that have no plan: a push whose run never got one is as good as lost, so it is a gap until then. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

PATIENCE = timedelta(minutes=5)
"""From the making of a run to the end of its first try to plan, on a machine with much to do."""
REFUSALS = frozenset({"EventRefused", "UsageError"})
"""Errors of `plan` that are its answer: the same push gives them again."""
AGAIN = frozenset({"up_for_retry", "restarting"})
OVER = frozenset({"failed", "upstream_failed", "removed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Unplanned:
    """The task `plan` of a run, where it has not ended well."""

    chain: str
    run_id: str
    state: str
    """Airflow's, empty for one that is not scheduled yet."""
    tries: int
    since: datetime
    """When the last try ended; the run's beginning where none did."""
    error: str = ""
    """Name of the error that the task left as its reason."""

    def gap(self, now: datetime) -> str:
        """What is to say of it, with what to do; empty where nothing is wrong."""
        waits = f"run {self.run_id} of {self.chain} has no plan yet, since {self.since:%Y-%m-%d %H:%M} UTC"
        if self.state in OVER:
            if self.error in REFUSALS:
                return ""
            return (
                f"run {self.run_id} of {self.chain} has no plan: its task `plan` is {self.state} since "
                f"{self.since:%Y-%m-%d %H:%M} UTC, its log says why. Then clear `plan` and all that follow it"
            )
        if self.state in AGAIN or self.tries > 1:
            return f"{waits}: its task `plan` failed, and is tried again by itself (try {max(1, self.tries)})"
        if now - self.since > PATIENCE:
            return f"{waits}: its task `plan` is {self.state or 'not scheduled'}"
        return ""
