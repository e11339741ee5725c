"""What every kind of target does. Which kinds exist says `targets/table.py`; each loads when a trigger needs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

    from delivery_chain.core.connection_fields import ConnectionFields
    from delivery_chain.core.results import Attempt
    from delivery_chain.targets.order import Order


@dataclass(frozen=True, slots=True)
class Settled:
    """The end of what an order set off at its target, such as a rollout."""

    good: bool
    sentence: str
    """What came of it, without secrets."""


class Target(Protocol):
    """Somewhere an image is delivered to. Its `repr` shows no secret."""

    connection_type: ClassVar[str]
    """Of the Airflow connection that holds its address and secrets."""

    @property
    def shown_url(self) -> str:
        """The address for people and for the record, without secrets."""

    @classmethod
    def of(cls, fields: ConnectionFields) -> Self:
        """The target that a connection leads to, its secrets masked. Reads `fields` alone.

        Raises:
            ConfigurationError: A field is wrong. Not retryable.
        """

    def deliver(self, order: Order, earlier: Sequence[Attempt]) -> Attempt:
        """Send an order once, in bounded time; an order that came before, under the same id, must do no harm.

        Args:
            order: What to deliver.
            earlier: The attempts of this order so far, the oldest first; none of them is done.

        Returns:
            What came of it: done, refused, or later. Whatever the target answers is no exception. It repeats no secret.
        """

    def settled(self, order: Order) -> Settled | None:
        """The end of what the order set off; None while that is under way. Asked after the order is done.

        Looks and changes nothing. A target that is done once it took an order says so at once.
        """
