from __future__ import annotations

import inspect
from datetime import timedelta

import pytest
from airflow.sdk.definitions.retry_policy import RetryAction, RetryDecision

from delivery_chain import errors
from delivery_chain.errors import (
    ConfigurationError,
    ConnectionMissing,
    DeliveryChainError,
    RegistryBusy,
    SpecError,
    WebhookRefused,
)
from delivery_chain.retry import LONGEST_DELAY, ChainRetryPolicy, WatchRetryPolicy, delay_after

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
        "ConfigurationError: the same again gives the same answer"
    )


def test_the_other_sides_wish_counts() -> None:
    """`retry_after` wins over the back-off."""
    decision = ChainRetryPolicy().evaluate(RegistryBusy("slow down", retry_after=42), 5, 9)
    assert decision == RetryDecision.retry(timedelta(seconds=42), "RegistryBusy: trying again in 42 s")


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()])
def test_errors_of_others_take_airflows_way(error: BaseException) -> None:
    """What is not ours is not decided here."""
    assert ChainRetryPolicy().evaluate(error, 1, 3) == RetryDecision.default()


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


@pytest.mark.parametrize("kind", [ConnectionMissing, ConfigurationError])
@pytest.mark.parametrize("tries", [1, 7, 60])
def test_a_watch_looks_soon_for_what_it_lacked(kind: type[DeliveryChainError], tries: int) -> None:
    """A connection that was made late is found within a minute, however often it was missed before."""
    decision = WatchRetryPolicy().evaluate(kind("x"), tries, 60)
    assert decision == RetryDecision.retry(timedelta(seconds=20), f"{kind.__name__}: looking again in 20 s")


def test_a_watch_backs_off_from_others() -> None:
    """A server that refuses is asked ever less often, as Airflow itself does it."""
    assert WatchRetryPolicy().evaluate(RegistryBusy("x"), 1, 60) == RetryDecision.default()
