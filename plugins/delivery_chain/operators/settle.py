"""Wind down a removed chain: await its last runs, sweep what they left in the registry, then drop its Dag."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from delivery_chain.core.spec.in_force import REMEMBER
from delivery_chain.errors import DeliveryChainError
from delivery_chain.operators.base import ChainOperator, skip
from delivery_chain.operators.staging_cleanup import RUNNING, StagingCleanupOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class SettleOperator(ChainOperator):
    """Wait for the runs of one removed chain, then remove their staging tags."""

    def __init__(self, *, chain: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.chain = chain

    def execute(self, context: Context) -> list[str]:
        """Return the removed staging tags; the task is skipped while runs are in flight, or with nothing to do.

        If a run is cleared after that, the chain's Dag comes back, because Airflow can't finish a run without its Dag.

        Raises:
            RegistryError: The registry can't be queried. Retryable; after a day, the staging tags are abandoned.
        """
        from delivery_chain.spec_store.in_force import removed_since, settle

        found = removed_since(self.chain)
        if found is None:
            raise skip(f"chain {self.chain} is in force again, or forgotten")
        spec, since, settled = found
        running = context["ti"].get_dr_count(dag_id=self.chain, states=sorted(RUNNING))
        if running and settled:
            settle(self.chain, settled=False)
        if running:
            raise skip(f"chain {self.chain} has {running} runs in flight")
        if settled:
            raise skip(f"chain {self.chain} is settled")
        now = datetime.now(UTC)
        cleanup = StagingCleanupOperator(task_id=f"sweep-{self.chain}", spec=spec)
        try:
            removed = cleanup.clean_up(context, now)
        except DeliveryChainError as error:
            if error.retryable and now - since < REMEMBER:
                raise
            self.log.warning("Staging tags of chain %s may remain: %s", self.chain, error)
            removed = []
        settle(self.chain)
        self.log.info("Chain %s has no runs left: its Dag is dropped", self.chain)
        return removed
