"""The base of the mapped steps: which item of the plan's spec an instance is about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from delivery_chain.core.spec.slots import nothing_there, slot_names
from delivery_chain.core.steps import Step
from delivery_chain.errors import DeliveryChainError
from delivery_chain.operators.base import ChainOperator, planned, skip

if TYPE_CHECKING:
    from delivery_chain.core.spec.model import ChainSpec
    from delivery_chain.operators.task_instance import TaskInstance

LABEL = "{{ task.about(ti) }}"
"""The template that names an instance in Airflow's pages."""


class SlotOperator(ChainOperator):
    """A step with one instance per platform, rule or trigger: see `delivery_chain.core.spec.slots`."""

    def __init__(self, *, slot: int, **kwargs: Any) -> None:
        """Decide nothing yet.

        Args:
            slot: The position of what this instance is about, in the list of the plan's spec; also its map index.
            kwargs: Airflow's own.
        """
        super().__init__(**kwargs)
        self.slot = slot
        self._about = ""

    def item(self, spec: ChainSpec) -> str:
        """The name of what this instance is about.

        Raises:
            AirflowSkipException: The plan's spec has nothing at this position.
        """
        if reason := nothing_there(spec, self.task_id, self.slot):
            raise skip(reason)
        self._about = slot_names(spec)[self.task_id][self.slot]
        return self._about

    def about(self, ti: TaskInstance) -> str:
        """The name, for Airflow's pages; empty where there is none or it can't be told. Never raises.

        Airflow renders it before the step and after it, and what is raised then hides why a step failed.
        Where no plan can be read it is that of the Dag's own spec, which the listener named the instance by, too.
        """
        if not self._about:
            try:
                self._about = next(iter(slot_names(self._spec(ti))[self.task_id][self.slot :]), "")
            except Exception:
                self.log.debug("This instance has no name", exc_info=True)
        return self._about

    def _spec(self, ti: TaskInstance) -> ChainSpec:
        try:
            return planned(ti)[1]
        except DeliveryChainError:
            plan: Any = self.dag.get_task(Step.PLAN)
            spec: ChainSpec = plan.spec
            return spec
