"""Errors cross a process boundary unchanged."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_chain import errors
from delivery_chain.errors import (
    BuildFailed,
    DatabaseUnavailable,
    DeliveryChainError,
    JobFailed,
    JobLost,
    RegistryBusy,
    SpecError,
    TagConflict,
    WebhookRefused,
)
from delivery_chain.jobs.failure import LONGEST, Failure, error_of, failure_of

CROSSING = [
    one
    for one in vars(errors).values()
    if isinstance(one, type)
    and issubclass(one, DeliveryChainError)
    and not issubclass(one, (SpecError, WebhookRefused))
]


def crossed(error: DeliveryChainError) -> DeliveryChainError:
    """The error as it comes out at the other side."""
    return error_of(Failure.model_validate_json(failure_of(error).model_dump_json()))


def parts(error: DeliveryChainError) -> tuple[Any, ...]:
    return type(error), str(error), error.retryable, vars(error)


@pytest.mark.parametrize("kind", CROSSING, ids=lambda kind: kind.__name__)
def test_every_error_crosses(kind: type[DeliveryChainError]) -> None:
    """Each class of the tree arrives as itself, with its message, its advice on retries and its attributes."""
    error = kind("shop/api: expected a, found b", retry_after=7.5)
    assert parts(crossed(error)) == parts(error)


@pytest.mark.parametrize(
    "error",
    [
        BuildFailed("exit code 1", tool="buildah", exit_code=1, output=["step 3", "boom"]),
        BuildFailed("exit code 1", tool="buildah", exit_code=0, output=["boom"], logged=True),
        RegistryBusy(
            "busy", method="PUT", url="https://r/v2/", status=429, codes=["TOOMANYREQUESTS"], retry_after=3
        ),
        TagConflict("v1 is there", codes=["TAG_INVALID", "DENIED"], status=409),
        DatabaseUnavailable("no database", tool="trivy", output=["x"] * 40),
    ],
    ids=lambda error: type(error).__name__,
)
def test_attributes_cross(error: DeliveryChainError) -> None:
    """Tools' last lines and registries' codes arrive, and the message does not repeat them."""
    assert parts(crossed(error)) == parts(error)


@given(message=st.text(max_size=200), codes=st.lists(st.text(max_size=20), max_size=3))
def test_any_text_crosses(message: str, codes: list[str]) -> None:
    """Whatever a registry says arrives as it was; what no JSON can hold is the one exception."""
    if any("\ud800" <= sign <= "\udfff" for sign in message + "".join(codes)):
        return
    error = TagConflict(message, codes=codes)
    assert parts(crossed(error)) == parts(error)


def test_a_long_message_is_cut() -> None:
    """An error does not grow the result without a bound."""
    assert len(str(crossed(BuildFailed("a" * (LONGEST + 1))))) == LONGEST


@pytest.mark.parametrize(
    ("name", "retryable", "kind"),
    [
        ("QuotaExceeded", False, JobFailed),
        ("QuotaExceeded", True, JobLost),
        ("BuildFailed", True, JobLost),
        ("RegistryBusy", False, JobFailed),
        ("SpecError", False, JobFailed),
        ("OUTPUT_LINES", False, JobFailed),
    ],
)
def test_an_error_of_another_release(name: str, *, retryable: bool, kind: type[DeliveryChainError]) -> None:
    """It keeps its message and its advice on retries, whatever its class is called."""
    error = error_of(Failure(error=name, message="over quota", retryable=retryable, retry_after=5.0))
    assert (type(error), str(error), error.retryable, error.retry_after) == (
        kind,
        "over quota",
        retryable,
        5.0,
    )
