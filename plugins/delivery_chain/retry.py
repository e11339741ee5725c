"""Which failures Airflow tries again, and when: the error itself says so, see `delivery_chain.errors`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy

from delivery_chain.errors import ConfigurationError, DeliveryChainError

if TYPE_CHECKING:
    from airflow.sdk import Context

FIRST_DELAY = 10.0
"""Seconds before the second try where the other side named none; doubled for each further one."""
SETUP_DELAY = 20.0
"""Seconds until a watch looks again whether the connection or setting is there that it lacked: nobody else is asked."""
LONGEST_DELAY = 300.0
"""Seconds: the bound for back-off and for what the other side asks."""


class ChainRetryPolicy(RetryPolicy):
    """Fails at once what trying again cannot mend, and backs off from what it can."""

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,
        max_tries: int,  # noqa: ARG002 - Airflow's signature
        context: Context | None = None,  # noqa: ARG002 - Airflow's signature
    ) -> RetryDecision:
        """Decide from the error's `retryable` and `retry_after`; errors of others take Airflow's own way.

        Args:
            exception: What the task raised.
            try_number: 1 for the first try.
            max_tries: Not used: Airflow itself holds to it.
            context: Not used.
        """
        if not isinstance(exception, DeliveryChainError):
            return RetryDecision.default()
        name = type(exception).__name__
        if not exception.retryable:
            return RetryDecision.fail(f"{name}: the same again gives the same answer")
        delay = delay_after(try_number, exception.retry_after)
        return RetryDecision.retry(timedelta(seconds=delay), f"{name}: trying again in {delay:g} s")

    def serialize(self) -> dict[str, Any]:
        """The policy as JSON; it has no parameters."""
        return {"__type": "ChainRetryPolicy"}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> ChainRetryPolicy:  # noqa: ARG003 - Airflow's signature
        """The policy that `serialize` gave."""
        return cls()


class WatchRetryPolicy(RetryPolicy):
    """Of the Dags that watch: soon after somebody has set this Airflow right, they look; else Airflow's own way."""

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,  # noqa: ARG002 - Airflow's signature
        max_tries: int,  # noqa: ARG002 - Airflow's signature
        context: Context | None = None,  # noqa: ARG002 - Airflow's signature
    ) -> RetryDecision:
        """Decide from the error: what a connection or setting lacks is looked for again and again.

        Args:
            exception: What the task raised.
            try_number: Not used.
            max_tries: Not used: Airflow itself holds to it.
            context: Not used.
        """
        if not isinstance(exception, ConfigurationError):
            return RetryDecision.default()
        name = type(exception).__name__
        return RetryDecision.retry(
            timedelta(seconds=SETUP_DELAY), f"{name}: looking again in {SETUP_DELAY:g} s"
        )

    def serialize(self) -> dict[str, Any]:
        """The policy as JSON; it has no parameters."""
        return {"__type": "WatchRetryPolicy"}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> WatchRetryPolicy:  # noqa: ARG003 - Airflow's signature
        """The policy that `serialize` gave."""
        return cls()


def delay_after(try_number: int, retry_after: float | None = None) -> float:
    """Seconds to wait after a failed try.

    Args:
        try_number: The try that failed, 1 for the first.
        retry_after: Seconds that the other side asked for; wins over the back-off.

    Returns:
        At least 0, at most `LONGEST_DELAY`.
    """
    if retry_after is not None:
        return min(max(retry_after, 0.0), LONGEST_DELAY)
    return min(FIRST_DELAY * 2.0 ** min(max(try_number - 1, 0), 10), LONGEST_DELAY)
