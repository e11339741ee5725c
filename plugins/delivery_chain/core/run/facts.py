"""Facts of a run, from which its outcome is determined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from delivery_chain.core.run.marks import MARKED
from delivery_chain.core.steps import NOT_BEGUN, Step, Task

if TYPE_CHECKING:
    from delivery_chain.core.gate.judge import Verdict
    from delivery_chain.core.plan import Planned
    from delivery_chain.core.results import (
        DeliveryResult,
        Published,
        Quarantined,
        Record,
        RegionResult,
        Subject,
    )
    from delivery_chain.core.run.marks import Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything known of a run; None for missing or unproven results."""

    state: str
    """Airflow's state of the run."""
    held: str = ""
    """Why Airflow does not continue it, such as `the Dag is paused`."""
    tasks: tuple[Task, ...] = ()
    deleted: tuple[str, ...] = ()
    """Steps whose tasks a user deleted; clearing the run restores them."""
    altered: tuple[str, ...] = ()
    """Tasks whose values are not what they left."""
    planned: Planned | None = None
    subject: Subject | None = None
    verdict: Verdict | None = None
    published: Published | None = None
    regions: tuple[RegionResult, ...] = ()
    deliveries: tuple[DeliveryResult, ...] = ()
    quarantined: Quarantined | None = None
    record: Record | None = None
    marks: tuple[Mark, ...] = ()
    """Manual actions in force, oldest first."""
    clears: int = 0
    """Number of times that it, or part of it, was cleared."""

    @property
    def reported_too_soon(self) -> bool:
        """Whether tasks were cleared after `report` had begun: its record and the run's state are out of date."""
        return self.record is not None and self.record.clears < self.clears

    def of(self, *states: str) -> list[Task]:
        """Tasks in one of these states, except `report`, which only describes the others."""
        return [task for task in self.tasks if task.state in states and task.step != Step.REPORT]

    def is_current(self, step: str) -> bool:
        """Whether the result of a step is from its last pass.

        A cleared step keeps its result until it begins, and may be stopped before it does.
        """
        return not any(
            task.step == step
            and task.state in NOT_BEGUN
            and not any(mark.what in MARKED and mark.about(task) for mark in self.marks)
            for task in self.tasks
        )
