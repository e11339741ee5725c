"""Define the interface of targets. `targets/table.py` lists the kinds; each is loaded when a trigger needs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

    from delivery_chain.core.connection_fields import ConnectionFields
    from delivery_chain.core.results import Attempt
    from delivery_chain.targets.order import Order


@dataclass(frozen=True, slots=True)
class Settled:
    """The outcome of what an order started at its target, such as a rollout."""

    good: bool
    sentence: str
    """The outcome in one sentence, without secrets."""


class Probe(NamedTuple):
    """Whether a target can be reached from this machine."""

    good: bool
    sentence: str
    """The result for people, without secrets."""


class Target(Protocol):
    """A receiver of deliveries. Its `repr` shows no secret."""

    connection_type: ClassVar[str]
    """Type of the Airflow connection that holds its address and secrets."""

    @property
    def shown_url(self) -> str:
        """The address to display and to record, without secrets."""

    @classmethod
    def of(cls, fields: ConnectionFields) -> Self:
        """Return the target that a connection describes, and mask its secrets in logs. Reads only `fields`.

        Raises:
            ConfigurationError: A field is wrong. Not retryable.
        """

    def probe(self) -> Probe:
        """Check that deliveries can reach it, in bounded time. Delivers nothing, and has no effect at the target."""

    def deliver(self, order: Order, earlier: Sequence[Attempt]) -> Attempt:
        """Send an order once, in bounded time. Idempotent: sending it again under the same id must do no harm.

        Args:
            order: The order to deliver.
            earlier: Previous attempts at this order, oldest first; none succeeded.

        Returns:
            The attempt, whose outcome is done, refused or later. It contains no secret. No response of the target
            raises an exception.
        """

    def settled(self, order: Order) -> Settled | None:
        """Poll the outcome of what the order started; None while that is in progress. Called after delivery.

        Read-only. A target without a rollout of its own returns an outcome at once.
        """
