"""Trying again, for as long as there is hope: the one place that waits for a registry to come round."""

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
"""Tries of one request in a row that did nothing."""
BUSY_ATTEMPTS = 10
"""Tries of one request that the registry put off: it is there, and says when."""
WRONG_BYTES_ATTEMPTS = 2
"""Tries at bytes that are not what their digest says: chance does not strike twice."""
LONGEST_WAIT = 10.0
"""Seconds between two tries that nobody asked for."""


class Stopped(Exception):
    """The copy was ended from outside; its threads unwind with this."""


class Patience:
    """Waits and tries again within one copy. Safe to use from threads."""

    def __init__(self, limits: Limits, stop: threading.Event) -> None:
        """Nothing was tried yet.

        Args:
            limits: Whose gates are entered for each try.
            stop: Ends every wait at once.
        """
        self._limits = limits
        self._stop = stop
        self._random = random.Random()  # noqa: S311  # spreads retries, keeps no secret

    def gate(self, registry: Registry) -> Gate:
        """The registry's gate."""
        return self._limits.of(registry)

    def call(self, registry: Registry, work: Callable[[], Result]) -> Result:
        """Do one thing at a registry, within its limits, until it works or there is no hope.

        Raises:
            RegistryError: Not retryable, or tried often enough, or put off for longer than a minute.
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
        """A place at each registry, as a context manager."""
        return all_entered((self.gate(registry) for registry in registries), self.wait)

    def spend(self, registry: Registry, size: int) -> None:
        """Pay for bytes that go to or come from a registry."""
        self.check()
        self.gate(registry).spend(size, self.wait)

    def check(self) -> None:
        """Raise `Stopped` where the copy was ended."""
        if self._stop.is_set():
            raise Stopped

    def wait(self, seconds: float) -> None:
        """Wait, but not longer than the copy lives."""
        if self._stop.wait(seconds):
            raise Stopped

    def backoff(self, failures: int) -> float:
        """Seconds before the next try after that many failures in a row."""
        return float(
            min(LONGEST_WAIT, self._limits.first_wait * 2 ** (failures - 1)) * self._random.uniform(0.5, 1.0)
        )


class Tries:
    """The failures of one thing, up to where it is given up."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._failures = 0
        self._put_off = 0

    def progressed(self) -> None:
        """Something was reached since the last failure: hope starts anew."""
        self._failures = 0
        self._put_off = 0

    def failed(self, error: RegistryError, registry: Registry) -> None:
        """Wait before the next try.

        Raises:
            RegistryError: `error` itself, where another try has no hope.
        """
        self._patience.check()
        if isinstance(error, RegistryBusy):
            self._put_off += 1
            pause = max(error.retry_after or 0.0, self._patience.backoff(self._put_off))
            if self._put_off >= BUSY_ATTEMPTS or pause > LONGEST_PAUSE:
                raise error
            self._patience.gate(registry).busy(pause)
            self._patience.wait(pause)
            return
        self._failures += 1
        most = WRONG_BYTES_ATTEMPTS if isinstance(error, ContentMismatch) else ATTEMPTS
        if not error.retryable or self._failures >= most:
            raise error
        self._patience.wait(self._patience.backoff(self._failures))
