"""Map each instance of a mapped step to its item of the plan's spec."""

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
"""Template for an instance's name on Airflow's pages."""


class SlotOperator(ChainOperator):
    """Step with one mapped instance per platform, rule or trigger: see `delivery_chain.core.spec.slots`."""

    def __init__(self, *, slot: int, **kwargs: Any) -> None:
        """Remember the slot; the item itself is read later, from the plan's spec.

        Args:
            slot: Position of this instance's item in the list of the plan's spec; also its map index.
            kwargs: Arguments of BaseOperator.
        """
        super().__init__(**kwargs)
        self.slot = slot
        self._about = ""

    def item(self, spec: ChainSpec) -> str:
        """Return the name of this instance's item.

        Raises:
            AirflowSkipException: The plan's spec has no item at this position.
        """
        if reason := nothing_there(spec, self.task_id, self.slot):
            raise skip(reason)
        self._about = slot_names(spec)[self.task_id][self.slot]
        return self._about

    def about(self, ti: TaskInstance) -> str:
        """Return the instance's name for Airflow's pages; empty if it has none. Never raises.

        Airflow renders the name before and after the step, and an error raised then would hide why the step failed.
        If no plan can be read, the name comes from the Dag's own spec, as it does in the listener.
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
