"""Which failures are tried again, when, and for how long.

Two ways lead to another try. The first is the policy here, for an exception that a task raised and could still report:
the error itself says whether trying again helps, see `delivery_chain.errors`. The second is Airflow's own, where the
task could report nothing: it never began, its worker died, or Airflow's API server was away. There only the numbers
count that the Dag was serialised with, so `STEPS`, `PLAN` and `WATCHES` hold those for both ways.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy

from delivery_chain.errors import DeliveryChainError

if TYPE_CHECKING:
    from airflow.sdk import Context

FIRST_DELAY = 10.0
"""Seconds before the second try where the other side named none; doubled for each further one."""
LONGEST_DELAY = 300.0
"""Seconds: the bound for back-off and for what the other side asks, where the task names none."""
UNKNOWN_RETRIES = 3
"""For errors that nobody foresaw: once is too few after a hiccup, and an hour of a bug helps nobody."""


class ChainRetryPolicy(RetryPolicy):
    """Fails at once what trying again cannot mend, soon what nobody knows, and backs off from what may heal."""

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,
        max_tries: int,
        context: Context | None = None,
    ) -> RetryDecision:
        """Decide from the error's `retryable` and `retry_after`; an Airflow that does not answer is waited for.

        Args:
            exception: What the task raised.
            try_number: 1 for the first try; a clear goes on counting.
            max_tries: The tries before the last clear plus the task's retries. Airflow itself holds to it.
            context: Airflow's; without one the task's own retries and longest delay are not known.
        """
        from delivery_chain.hooks.absence import is_away  # noqa: PLC0415 - not in a module that a parse imports

        task: Any = context["task"] if context else None
        tries = try_number - max(0, max_tries - task.retries) if task else try_number
        name = type(exception).__name__
        asked = exception.retry_after if isinstance(exception, DeliveryChainError) else None
        if isinstance(exception, DeliveryChainError):
            if not exception.retryable:
                return RetryDecision.fail(f"{name}: the same again gives the same answer")
        elif not is_away(exception) and tries > UNKNOWN_RETRIES:
            return RetryDecision.fail(f"{name}: not an error that is known to pass, after {tries} tries")
        longest = task.max_retry_delay.total_seconds() if task and task.max_retry_delay else LONGEST_DELAY
        delay = delay_after(tries, asked, longest)
        return RetryDecision.retry(timedelta(seconds=delay), f"{name}: trying again in {delay:g} s")

    def serialize(self) -> dict[str, Any]:
        """The policy as JSON; it has no parameters."""
        return {"__type": "ChainRetryPolicy"}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> ChainRetryPolicy:  # noqa: ARG003 - Airflow's signature
        """The policy that `serialize` gave."""
        return cls()


def delay_after(tries: int, retry_after: float | None = None, longest: float = LONGEST_DELAY) -> float:
    """Seconds to wait after a failed try.

    Args:
        tries: The try that failed, 1 for the first.
        retry_after: Seconds that the other side asked for; wins over the back-off.
        longest: The bound for both.

    Returns:
        At least 0, at most `longest`.
    """
    if retry_after is not None:
        return min(max(retry_after, 0.0), longest)
    return min(FIRST_DELAY * 2.0 ** min(max(tries - 1, 0), 10), longest)


STEPS: dict[str, Any] = {
    "retries": 18,
    "retry_delay": timedelta(seconds=FIRST_DELAY),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(seconds=LONGEST_DELAY),
    "retry_policy": ChainRetryPolicy(),
}
"""For a step: 70 minutes of a lost registry, database or API server, not counting the tries themselves."""
PLAN: dict[str, Any] = {"retries": 2100, "max_retry_delay": timedelta(minutes=10)}
"""For `plan`: two weeks. Its push is told once; with the run's plan it would be lost."""
WATCHES: dict[str, Any] = {
    "retries": 30,
    "retry_delay": timedelta(seconds=20),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(seconds=45),
}
"""For a Dag that always runs: what waiting can't mend is looked at again within a minute of somebody's mending it.

No policy: its next run would start at once, and fail again without a pause.
"""
