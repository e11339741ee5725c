"""A target whose effect takes time, such as a rollout, and which behaves as a test scripts it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from delivery_chain.core.results import Attempt, AttemptOutcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from delivery_chain.targets.interface import Probe, Settled
    from delivery_chain.targets.order import Order

ROW = "support.scripted_target:ScriptedTarget"
"""Name in the table of targets."""


@dataclass(slots=True)
class Script:
    """The target's responses, and the requests that it got."""

    outcomes: list[AttemptOutcome] = field(default_factory=list)
    """Results of the next attempts; then `DONE`."""
    ends: list[Settled | None] = field(default_factory=list)
    """Results of the next queries; then nothing has settled."""
    taken: list[tuple[str, list[AttemptOutcome]]] = field(default_factory=list)
    """Tag and outcomes of the earlier attempts, for each order."""
    looked: list[str] = field(default_factory=list)
    """Tags whose outcome was queried."""


class ScriptedTarget:
    """The port, scripted; the test sets `script`."""

    connection_type: ClassVar[str] = "delivery_webhook"
    script: ClassVar[Script]
    shown_url = "https://cluster.example.com/shop/api"

    @classmethod
    def of(cls, fields: Any) -> ScriptedTarget:
        return cls()

    def probe(self) -> Probe:
        raise NotImplementedError

    def deliver(self, order: Order, earlier: Sequence[Attempt]) -> Attempt:
        self.script.taken.append((order.tag, [one.outcome for one in earlier]))
        outcome = self.script.outcomes.pop(0) if self.script.outcomes else AttemptOutcome.DONE
        return Attempt(at=datetime.now(UTC), tag=order.tag, seconds=0.1, outcome=outcome)

    def settled(self, order: Order) -> Settled | None:
        self.script.looked.append(order.tag)
        return self.script.ends.pop(0) if self.script.ends else None
