from __future__ import annotations

import inspect
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.definitions.retry_policy import RetryAction, RetryDecision
from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
from airflow.sdk.execution_time.comms import ErrorResponse

from delivery_chain import errors
from delivery_chain.errors import (
    ConfigurationError,
    DeliveryChainError,
    RegistryBusy,
    SpecError,
    WebhookRefused,
)
from delivery_chain.retry import LONGEST_DELAY, ChainRetryPolicy, delay_after

TREE = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, DeliveryChainError) and kind is not SpecError
]


@pytest.mark.parametrize("kind", TREE)
def test_every_error_decides_by_its_own_word(kind: type[DeliveryChainError]) -> None:
    """An error that is retryable is retried, any other fails the task at once."""
    error = WebhookRefused(400, "x") if issubclass(kind, WebhookRefused) else kind("x")
    action = ChainRetryPolicy().evaluate(error, 1, 3).action
    assert action is (RetryAction.RETRY if kind.retryable else RetryAction.FAIL)


def test_a_fail_says_why() -> None:
    """Airflow shows the reason on the task instance; it holds no part of the message."""
    assert ChainRetryPolicy().evaluate(ConfigurationError("secret"), 1, 3) == RetryDecision.fail(
        "ConfigurationError: a retry would fail in the same way"
    )


def test_the_other_sides_wish_counts() -> None:
    """`retry_after` wins over the back-off."""
    decision = ChainRetryPolicy().evaluate(RegistryBusy("slow down", retry_after=42), 5, 9)
    assert decision == RetryDecision.retry(timedelta(seconds=42), "RegistryBusy: retrying in 42 s")


def context(retries: int = 18) -> Any:
    return {"task": SimpleNamespace(retries=retries, max_retry_delay=timedelta(minutes=10))}


@pytest.mark.parametrize(
    ("try_number", "max_tries", "retried"),
    [
        (1, 18, True),
        (3, 18, True),
        (4, 18, False),
        (9, 26, True),
        (11, 26, True),
        (12, 26, False),
        (9, 8, False),
    ],
)
def test_what_nobody_knows_is_tried_three_more_times(
    try_number: int, max_tries: int, *, retried: bool
) -> None:
    """A bug of ours or of Airflow's, counted from the last clear on: that one sets `max_tries` to 8 + 18 here."""
    action = ChainRetryPolicy().evaluate(ValueError("x"), try_number, max_tries, context()).action
    assert action is (RetryAction.RETRY if retried else RetryAction.FAIL)


def said(kind: ErrorType, **detail: Any) -> AirflowRuntimeError:
    return AirflowRuntimeError(ErrorResponse(error=kind, detail=detail))


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (said(ErrorType.API_SERVER_ERROR, status_code=None, exception_type="ConnectError"), True),
        (said(ErrorType.API_SERVER_ERROR, status_code=500), True),
        (said(ErrorType.API_SERVER_ERROR, status_code=503), True),
        (said(ErrorType.API_SERVER_ERROR, status_code=429), True),
        (said(ErrorType.API_SERVER_ERROR), True),
        (said(ErrorType.API_SERVER_ERROR, status_code=404), False),
        (said(ErrorType.API_SERVER_ERROR, status_code=403), False),
        (said(ErrorType.VARIABLE_NOT_FOUND, key="x"), False),
        (ConnectionError("x"), False),
    ],
)
def test_an_airflow_that_does_not_answer_is_waited_for(error: Exception, *, away: bool) -> None:
    """What Airflow's SDK raises in a task while the API server or its database is away is retried to the end."""
    action = ChainRetryPolicy().evaluate(error, 18, 18, context()).action
    assert action is (RetryAction.RETRY if away else RetryAction.FAIL)


def test_the_task_bounds_the_delay() -> None:
    """The plan waits up to ten minutes, others five: the same as where Airflow alone decides."""
    decision = ChainRetryPolicy().evaluate(RegistryBusy("x"), 18, 18, context())
    assert decision == RetryDecision.retry(timedelta(minutes=10), "RegistryBusy: retrying in 600 s")


def test_a_clear_begins_with_short_delays() -> None:
    """Airflow continues to count the tries; the policy does not."""
    decision = ChainRetryPolicy().evaluate(RegistryBusy("x"), 20, 19 + 18, context())
    assert decision.retry_delay == timedelta(seconds=10)


@pytest.mark.parametrize(
    ("try_number", "asked", "seconds"),
    [
        (1, None, 10),
        (2, None, 20),
        (5, None, 160),
        (6, None, 300),
        (10**9, None, 300),
        (0, None, 10),
        (1, 0.0, 0),
        (1, -5.0, 0),
        (1, 86400.0, LONGEST_DELAY),
    ],
)
def test_back_off_is_bounded(try_number: int, asked: float | None, seconds: float) -> None:
    """Delays double up to five minutes, whatever is asked."""
    assert delay_after(try_number, asked) == seconds


def test_it_survives_serialisation() -> None:
    """The policy comes back from its JSON."""
    assert isinstance(ChainRetryPolicy.deserialize(ChainRetryPolicy().serialize()), ChainRetryPolicy)
