"""Retry requests with backoff: the one place that waits for a registry to recover."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, TypeVar

from delivery_chain.errors import ContentMismatch, RegistryBusy, RegistryError
from delivery_chain.oci.copy.limits import LONGEST_PAUSE, all_entered

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from delivery_chain.core.names.registry import Registry
    from delivery_chain.oci.copy.limits import Gate, Limits

Result = TypeVar("Result")

ATTEMPTS = 5
"""Maximum consecutive failed tries of one request."""
BUSY_ATTEMPTS = 10
"""Maximum tries of a request that the registry throttles: more than for failures, because the registry is up."""
WRONG_BYTES_ATTEMPTS = 2
"""Maximum tries of bytes that do not match their digest: few, because random corruption does not repeat."""
LONGEST_WAIT = 10.0
"""Longest backoff in seconds, unless the registry asks for more."""


class Stopped(Exception):
    """Raised in a copy's threads when the copy is stopped from outside."""


class Retrier:
    """Retry policy within one copy. Thread-safe."""

    def __init__(self, limits: Limits, stop: threading.Event) -> None:
        """Create the policy.

        Args:
            limits: Gates to enter for each try.
            stop: Event that ends every wait at once.
        """
        self._limits = limits
        self._stop = stop
        self._random = random.Random()  # noqa: S311  # spreads retries, keeps no secret

    def gate(self, registry: Registry) -> Gate:
        """Return the registry's gate."""
        return self._limits.of(registry)

    def call(self, registry: Registry, work: Callable[[], Result]) -> Result:
        """Do one operation at a registry, within its limits, until it succeeds or retries are exhausted.

        Raises:
            RegistryError: The error is not retryable, retries are exhausted, or the registry asks to wait for longer
                than a minute.
        """
        tries = Tries(self)
        while True:
            try:
                with all_entered((self.gate(registry),), self.wait):
                    self.check()
                    found = work()
            except RegistryError as error:
                tries.failed(error, registry)
            else:
                self.gate(registry).worked()
                return found

    def hold(self, registries: Sequence[Registry]) -> AbstractContextManager[None]:
        """Hold a slot at each registry, as a context manager."""
        return all_entered((self.gate(registry) for registry in registries), self.wait)

    def spend(self, registry: Registry, size: int) -> None:
        """Account for bytes sent to or received from a registry."""
        self.check()
        self.gate(registry).spend(size, self.wait)

    def check(self) -> None:
        """Raise `Stopped` if the copy was stopped."""
        if self._stop.is_set():
            raise Stopped

    def wait(self, seconds: float) -> None:
        """Wait; if the copy is stopped meanwhile, raise `Stopped` at once."""
        if self._stop.wait(seconds):
            raise Stopped

    def backoff(self, failures: int) -> float:
        """Return the seconds to wait before the next try, after a number of consecutive failures."""
        return float(
            min(LONGEST_WAIT, self._limits.first_wait * 2 ** (failures - 1)) * self._random.uniform(0.5, 1.0)
        )


class Tries:
    """Failure count of one operation, up to its limit."""

    def __init__(self, retrier: Retrier) -> None:
        self._retrier = retrier
        self._failures = 0
        self._put_off = 0

    def progressed(self) -> None:
        """Reset the count after progress since the last failure."""
        self._failures = 0
        self._put_off = 0

    def failed(self, error: RegistryError, registry: Registry) -> None:
        """Wait before the next try.

        Raises:
            RegistryError: `error` itself, if no try is left.
        """
        self._retrier.check()
        if isinstance(error, RegistryBusy):
            self._put_off += 1
            pause = max(error.retry_after or 0.0, self._retrier.backoff(self._put_off))
            if self._put_off >= BUSY_ATTEMPTS or pause > LONGEST_PAUSE:
                raise error
            self._retrier.gate(registry).busy(pause)
            self._retrier.wait(pause)
            return
        self._failures += 1
        most = WRONG_BYTES_ATTEMPTS if isinstance(error, ContentMismatch) else ATTEMPTS
        if not error.retryable or self._failures >= most:
            raise error
        self._retrier.wait(self._retrier.backoff(self._failures))
