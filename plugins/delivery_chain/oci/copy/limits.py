"""Limit concurrency and bandwidth per registry, for all copies of this process together.

After a 429 or 503 the concurrency is halved, and nothing is sent before the time the registry asked for; each
successful request lets it grow again, by about one per round (AIMD, like TCP).
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from delivery_chain.core.names.registry import Registry

FIRST_WAIT = 0.2
"""Seconds before the first retry; doubled each time."""
REQUESTS_AT_ONCE = 8
"""Concurrent requests per registry: what public registries accept from one client."""
LONGEST_PAUSE = 60.0
"""Longest `Retry-After` to wait for within a task, in seconds; for longer ones the task itself is retried."""
_BURST = 0.25
"""Allowed burst, in seconds' worth of the rate, so that a transfer in pieces of 1 MiB runs smoothly."""


@dataclass(slots=True)
class GateState:
    """Current limits of one registry."""

    allowed: float
    """Allowed concurrent requests; a fraction is rounded down."""
    closed_until: float = 0.0
    """Clock time, in seconds, until which nothing is sent."""
    paid_until: float = 0.0
    """Clock time, in seconds, at which the bytes sent so far are within the rate."""


class Store(Protocol):
    """Storage of a gate's state and its slots."""

    def state(self, fresh: GateState) -> AbstractContextManager[GateState]:
        """Lock and yield the state; `fresh` if none is stored yet."""

    def place(
        self, allowed: Callable[[], int], sleep: Callable[[float], object]
    ) -> AbstractContextManager[None]:
        """Wait for a free slot among those currently allowed, and hold it."""


class MemoryStore:
    """Store of a gate within this process."""

    def __init__(self) -> None:
        self._state: GateState | None = None
        self._inside = 0
        self._changed = threading.Condition()

    @contextmanager
    def state(self, fresh: GateState) -> Iterator[GateState]:
        """See `Store`."""
        with self._changed:
            self._state = self._state or fresh
            yield self._state
            self._changed.notify()

    @contextmanager
    def place(self, allowed: Callable[[], int], sleep: Callable[[float], object]) -> Iterator[None]:
        """See `Store`; a released slot wakes the next in line."""
        del sleep
        with self._changed:
            while self._inside >= allowed():
                self._changed.wait()
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify()


class Gate:
    """Gate that every request to one registry passes. Thread-safe."""

    def __init__(
        self,
        key: str,
        requests: int,
        rate: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        store: Store | None = None,
    ) -> None:
        """Create an open gate with no requests in flight.

        Args:
            key: The registry's base URL; gates are entered in this order.
            requests: Maximum number of concurrent requests.
            rate: Bytes per second; None for no limit.
            clock: Returns seconds.
            store: Where the state is kept; in this process by default.
        """
        self.key = key
        self._most = requests
        self._rate = rate
        self._clock = clock
        self._store = store or MemoryStore()

    @property
    def allowed(self) -> int:
        """Concurrent requests currently allowed."""
        with self._state() as state:
            return max(1, min(self._most, int(state.allowed)))

    @contextmanager
    def entered(self, sleep: Callable[[float], object]) -> Iterator[None]:
        """Wait for a free slot and for the end of the registry's pause; then hold the slot.

        Args:
            sleep: Sleeps for a number of seconds; an exception in it ends the wait.
        """
        with self._store.place(lambda: self.allowed, sleep):
            while (wait := self._pause()) > 0:
                sleep(wait)
            yield

    def worked(self) -> None:
        """Record a successful request: raise the concurrency a little."""
        with self._state() as state:
            state.allowed = min(float(self._most), state.allowed + 1 / state.allowed)

    def busy(self, pause: float) -> None:
        """Record that the registry asked to slow down.

        Args:
            pause: Seconds during which nothing is sent to it.
        """
        with self._state() as state:
            now = self._clock()
            if now >= state.closed_until:
                # All requests in flight at the time are throttled alike, so count them once.
                state.allowed = max(1.0, state.allowed / 2)
            state.closed_until = max(state.closed_until, now + min(pause, LONGEST_PAUSE))

    def spend(self, size: int, sleep: Callable[[float], object]) -> None:
        """Account for `size` bytes; wait if they exceed the rate."""
        if self._rate is None:
            return
        with self._state() as state:
            now = self._clock()
            state.paid_until = max(state.paid_until, now - _BURST) + size / self._rate
            wait = state.paid_until - now
        if wait > 0:
            sleep(wait)

    def _pause(self) -> float:
        with self._state() as state:
            return state.closed_until - self._clock()

    def _state(self) -> AbstractContextManager[GateState]:
        return self._store.state(GateState(float(self._most)))


class Limits:
    """Gates of this process, one per registry, and the first retry delay."""

    def __init__(
        self,
        *,
        requests: int = REQUESTS_AT_ONCE,
        rate: float | None = None,
        first_wait: float = FIRST_WAIT,
    ) -> None:
        """Create the limits; each registry gets its gate on first use.

        Args:
            requests: Maximum number of concurrent requests to one registry.
            rate: Bytes per second to or from one registry; None for no limit.
            first_wait: Seconds before the first retry; doubled each time.
        """
        self.first_wait = first_wait
        self._requests = requests
        self._rate = rate
        self._gates: dict[str, Gate] = {}
        self._lock = threading.Lock()

    def of(self, registry: Registry) -> Gate:
        """Return the gate of a registry, the same one each time."""
        key = registry.base_url
        with self._lock:
            if key not in self._gates:
                self._gates[key] = self._make(key)
            return self._gates[key]

    def _make(self, key: str) -> Gate:
        return Gate(key, self._requests, self._rate)


SHARED = Limits()
"""Default limits of copies."""


@contextmanager
def all_entered(gates: Iterable[Gate], sleep: Callable[[float], object]) -> Iterator[None]:
    """Hold a slot at each of several registries, taken in one order so that two copies can't deadlock."""
    with ExitStack() as stack:
        for gate in sorted(set(gates), key=lambda one: one.key):
            stack.enter_context(gate.entered(sleep))
        yield
