"""Retry policy: which failures are retried, when, and for how long.

A retry happens in two ways. First, by the policy here, for an exception that a task raised and could still report: the
error itself says whether a retry helps, see `delivery_chain.errors`. Second, by Airflow itself, if the task could not
report anything: it never began, its worker died, or Airflow's API server was down. Then only the values serialized
with the Dag count, so `STEPS`, `PLAN` and `WATCHES` hold those for both ways.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy

from delivery_chain.errors import DeliveryChainError

if TYPE_CHECKING:
    from airflow.sdk import Context

FIRST_DELAY = 10.0
"""Seconds before the first retry, unless the server names a delay; doubled for each further one."""
LONGEST_DELAY = 300.0
"""Upper limit in seconds of the backoff and of a server's delay, unless the task sets one."""
UNKNOWN_RETRIES = 3
"""For unexpected errors: one retry is too few after a hiccup, and retrying a bug for an hour is pointless."""


class ChainRetryPolicy(RetryPolicy):
    """Policy that fails permanent errors at once, unknown ones soon, and backs off from transient ones."""

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,
        max_tries: int,
        context: Context | None = None,
    ) -> RetryDecision:
        """Decide by the error's `retryable` and `retry_after`; wait for an Airflow that does not answer.

        Args:
            exception: What the task raised.
            try_number: 1 for the first try; counting continues after a clear.
            max_tries: Tries before the last clear plus the task's retries. Airflow itself enforces it.
            context: Airflow's; without it the task's own retries and longest delay are unknown.
        """
        from delivery_chain.hooks.absence import is_away  # noqa: PLC0415 - not in a module that a parse imports

        task: Any = context["task"] if context else None
        tries = try_number - max(0, max_tries - task.retries) if task else try_number
        name = type(exception).__name__
        asked = exception.retry_after if isinstance(exception, DeliveryChainError) else None
        if isinstance(exception, DeliveryChainError):
            if not exception.retryable:
                return RetryDecision.fail(f"{name}: a retry would fail in the same way")
        elif not is_away(exception) and tries > UNKNOWN_RETRIES:
            return RetryDecision.fail(f"{name}: not known to be transient, after {tries} tries")
        longest = task.max_retry_delay.total_seconds() if task and task.max_retry_delay else LONGEST_DELAY
        delay = delay_after(tries, asked, longest)
        return RetryDecision.retry(timedelta(seconds=delay), f"{name}: retrying in {delay:g} s")

    def serialize(self) -> dict[str, Any]:
        """Serialize the policy; it has no parameters."""
        return {"__type": "ChainRetryPolicy"}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> ChainRetryPolicy:  # noqa: ARG003 - Airflow's signature
        """Restore the policy from `serialize`."""
        return cls()


def delay_after(tries: int, retry_after: float | None = None, longest: float = LONGEST_DELAY) -> float:
    """Seconds to wait after a failed try.

    Args:
        tries: The try that failed, 1 for the first.
        retry_after: Delay that the server asked for, in seconds; takes precedence over the backoff.
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
"""For `plan`: two weeks. Its push is sent once, and without a plan for the run it would be lost."""
WATCHES: dict[str, Any] = {
    "retries": 30,
    "retry_delay": timedelta(seconds=20),
    "retry_exponential_backoff": 2.0,
    "max_retry_delay": timedelta(seconds=45),
}
"""For a Dag that always runs: a permanent error is checked again within a minute after it is fixed.

No policy: its next run would start at once, and fail again without a pause.
"""
