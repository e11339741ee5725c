"""Steps of a chain as Airflow's task instances: their order, states and the names of mapped ones. Pure."""

from __future__ import annotations

from dataclasses import dataclass


class Step:
    """Task ids of a chain. They are the record's columns and part of each seal, so they never change."""

    PLAN = "plan"
    BUILD = "build"
    ASSEMBLE = "assemble"
    SCAN = "scan"
    GATE = "gate"
    PUBLISH = "publish"
    QUARANTINE = "quarantine"
    DENIED = "denied"
    REPLICATE = "replicate"
    DISTRIBUTE = "distribute"
    REPORT = "report"
    """The last step: it reports how the run ended, and its own state becomes the run's state."""


class WatchStep:
    """Task ids of a Dag that watches a source or images."""

    WATCH = "watch"
    MATCH = "match"
    START = "start"
    REMEMBER = "remember"


STEPS = (
    Step.PLAN,
    Step.BUILD,
    Step.ASSEMBLE,
    Step.SCAN,
    Step.GATE,
    Step.PUBLISH,
    Step.QUARANTINE,
    Step.DENIED,
    Step.REPLICATE,
    Step.DISTRIBUTE,
    Step.REPORT,
)
"""Display order."""
BEFORE = {
    Step.BUILD: (Step.PLAN,),
    Step.ASSEMBLE: (Step.PLAN, Step.BUILD),
    Step.SCAN: (Step.ASSEMBLE,),
    Step.GATE: (Step.ASSEMBLE, Step.SCAN),
    Step.PUBLISH: (Step.GATE,),
    Step.QUARANTINE: (Step.GATE,),
    Step.REPLICATE: (Step.PUBLISH,),
    Step.DISTRIBUTE: (Step.PUBLISH, Step.REPLICATE),
}
"""Upstream steps of each step, without those that only report; in execution order."""
CLOSING = (Step.DENIED, Step.REPORT)
"""Steps that report what happened upstream, and report again when a run resumes after its end."""
SUCCESS, FAILED, SKIPPED = "success", "failed", "skipped"
SUPERSEDED = "Superseded"
BUILT = "BuiltBefore"
SKIPS = frozenset({SKIPPED, SUPERSEDED, BUILT})
"""Stored in place of an error's name if a step had nothing to do."""
NOT_RUN = frozenset({SKIPPED, "upstream_failed"})
"""Airflow's states of a task that it will never start by itself."""
DONE = NOT_RUN | {SUCCESS, FAILED, "removed"}
"""Airflow's states of a task that will not run again by itself."""
NOT_BEGUN = NOT_RUN | {"", "removed"}
"""Airflow's states of a task that has not run, or not since it was cleared: its earlier results are out of date."""
RETRYING = "up_for_retry"
"""Airflow's state of a task that failed and will be retried."""
RUNNING = frozenset({"running", "deferred", "queued", "scheduled", "restarting", "up_for_reschedule"})
"""Airflow's states of a task in flight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task instance of a run."""

    step: str
    """The task's id."""
    index: int = -1
    """Map index; -1 for a task that is not mapped."""
    state: str = ""
    """Airflow's state; empty if not known."""
    label: str = ""
    """Label of a mapped instance: a platform, a rule, a trigger."""
    reason: str = ""
    """Why it ended without a result, in one line, as the step itself left it."""
    error: str = ""
    """Name of the error's class, or one of `SKIPS`."""

    @property
    def name(self) -> str:
        """Name such as `gate`, or `build [linux/arm64]` for an instance of a mapped task."""
        label = self.label or (str(self.index) if self.index >= 0 else "")
        return f"{self.step} [{label}]" if label else self.step

    @property
    def skipped_itself(self) -> bool:
        """Whether the step itself found that it had nothing to do."""
        return self.state == SKIPPED and self.error in SKIPS

    @property
    def stopped(self) -> bool:
        """Whether it was certainly stopped from outside: it was due for a retry, and is skipped."""
        return self.state == SKIPPED and bool(self.error) and self.error not in SKIPS
