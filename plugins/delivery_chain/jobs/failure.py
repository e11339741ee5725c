"""Serializes errors to JSON, from a failed job to the waiting task in another process or on another machine."""

from __future__ import annotations

from typing import Any, Literal

from delivery_chain import errors
from delivery_chain.core.value import Value
from delivery_chain.errors import DeliveryChainError, JobFailed, JobLost

LONGEST = 64 * 1024
"""Maximum length of a serialized message, in characters."""
_CARRIED = ("method", "url", "status", "codes", "tool", "exit_code", "output")
"""Attributes of errors that are serialized besides the message; none contains a secret."""


class Failure(Value):
    """A job's error."""

    kind: Literal["failed"] = "failed"
    error: str
    """Name of its class in `delivery_chain.errors`."""
    message: str
    retryable: bool
    retry_after: float | None = None
    """Seconds that the server asked to wait before the next attempt."""
    details: dict[str, str | int | tuple[str, ...]] = {}
    """The error's other attributes, as far as they are set."""


def failure_of(error: DeliveryChainError) -> Failure:
    """Convert an error to its JSON form."""
    carried = {
        name: value for name, value in vars(error).items() if name in _CARRIED and value not in (None, "", ())
    }
    return Failure(
        error=type(error).__name__,
        message=str(error)[:LONGEST],
        retryable=error.retryable,
        retry_after=error.retry_after,
        details=carried,
    )


def error_of(failure: Failure) -> DeliveryChainError:
    """Rebuild the error from `failure_of`.

    An error that this release does not know, or defines differently, becomes a JobFailed, or a JobLost if retryable.
    """
    known = _known().get(failure.error)
    if known is None or known.retryable is not failure.retryable:
        known = JobLost if failure.retryable else JobFailed
    # The class's own constructor may compose the message from parts that were not serialized.
    error = known.__new__(known, failure.message)
    attributes: dict[str, Any] = {**_defaults(known), **failure.details, "retry_after": failure.retry_after}
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


def _known() -> dict[str, type[DeliveryChainError]]:
    found = (one for one in vars(errors).values() if isinstance(one, type))
    return {one.__name__: one for one in found if issubclass(one, DeliveryChainError) and _crosses(one)}


def _crosses(kind: type[DeliveryChainError]) -> bool:
    """Whether errors of a class can be rebuilt from a Failure."""
    return not issubclass(kind, errors.SpecError | errors.WebhookRefused)


def _defaults(kind: type[DeliveryChainError]) -> dict[str, Any]:
    return {name: value for name, value in vars(kind("")).items() if name in _CARRIED}
