"""Seeing a removed chain to its end: its last runs, then what they left in the registry, then its Dag."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from delivery_chain.core.spec.in_force import REMEMBER
from delivery_chain.errors import DeliveryChainError
from delivery_chain.operators.base import ChainOperator, skip
from delivery_chain.operators.sweep import RUNNING, SweepOperator

if TYPE_CHECKING:
    from airflow.sdk import Context


class SettleOperator(ChainOperator):
    """Waits for the runs of one removed chain, and sweeps up after them."""

    def __init__(self, *, chain: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.chain = chain

    def execute(self, context: Context) -> list[str]:
        """Return the staging tags that were removed; skipped while runs are on their way, or with nothing to do.

        Runs that somebody clears after that bring the chain's Dag back: without it Airflow would never end them.

        Raises:
            RegistryError: The registry can't be asked. Retryable; after a day its staging tags are given up.
        """
        from delivery_chain.spec_store.in_force import removed_since, settle

        found = removed_since(self.chain)
        if found is None:
            raise skip(f"chain {self.chain} is there again, or forgotten")
        spec, since, settled = found
        running = context["ti"].get_dr_count(dag_id=self.chain, states=sorted(RUNNING))
        if running and settled:
            settle(self.chain, settled=False)
        if running:
            raise skip(f"chain {self.chain} has {running} runs on their way")
        if settled:
            raise skip(f"chain {self.chain} is settled")
        now = datetime.now(UTC)
        sweep = SweepOperator(task_id=f"sweep-{self.chain}", spec=spec)
        try:
            swept = sweep.sweep(context, now)
        except DeliveryChainError as error:
            if error.retryable and now - since < REMEMBER:
                raise
            self.log.warning("Staging tags of chain %s may stay: %s", self.chain, error)
            swept = []
        settle(self.chain)
        self.log.info("Chain %s has no runs any more: its Dag goes", self.chain)
        return swept
