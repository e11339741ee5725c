"""How hard one registry is used: requests at once and bytes a second, shared by all copies of this process.

A registry that answers 429 or 503 gets half as many requests at once from then on, and none before the time it
asked for; each request that works lets the number grow again, by about one a round (AIMD, as TCP does).
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
"""Seconds before a second try of what failed; doubled each time."""
REQUESTS_AT_ONCE = 8
"""Per registry: what public registries take from one client without a word."""
LONGEST_PAUSE = 60.0
"""Seconds that a registry's `Retry-After` is waited for here; who asks for more gets the task's own retry."""
_BURST = 0.25
"""Seconds of the allowed rate that may go out at once, so that pieces of 1 MiB are no stutter."""


@dataclass(slots=True)
class GateState:
    """What is known of one registry's patience."""

    allowed: float
    """Requests at once; whole ones count."""
    closed_until: float = 0.0
    """Seconds of the clock until which nothing is sent."""
    paid_until: float = 0.0
    """Seconds of the clock until which the bytes that went out are within the rate."""


class Store(Protocol):
    """Where a gate keeps its state, and how it counts who is inside."""

    def state(self, fresh: GateState) -> AbstractContextManager[GateState]:
        """The state, for the caller alone until the block ends; `fresh` where there is none yet."""

    def place(
        self, allowed: Callable[[], int], sleep: Callable[[float], object]
    ) -> AbstractContextManager[None]:
        """Wait for a free place among those allowed now, and hold it."""


class MemoryStore:
    """A gate of this process alone."""

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
        """See `Store`; a place that is given back wakes the next in line."""
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
    """The way to one registry. Safe to use from threads."""

    def __init__(
        self,
        key: str,
        requests: int,
        rate: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        store: Store | None = None,
    ) -> None:
        """Open, with nobody inside.

        Args:
            key: The registry's base URL; gates are entered in this order.
            requests: Most requests at once.
            rate: Bytes a second; None for no limit.
            clock: Seconds.
            store: Where the state is; in this process unless given.
        """
        self.key = key
        self._most = requests
        self._rate = rate
        self._clock = clock
        self._store = store or MemoryStore()

    @property
    def allowed(self) -> int:
        """Requests at once, as things are now."""
        with self._state() as state:
            return max(1, min(self._most, int(state.allowed)))

    @contextmanager
    def entered(self, sleep: Callable[[float], object]) -> Iterator[None]:
        """Wait for a free place, and for the registry's pause to be over; then hold the place.

        Args:
            sleep: Waits that many seconds; what it raises ends the wait.
        """
        with self._store.place(lambda: self.allowed, sleep):
            while (wait := self._pause()) > 0:
                sleep(wait)
            yield

    def worked(self) -> None:
        """A request was answered: a little more may be asked of the registry."""
        with self._state() as state:
            state.allowed = min(float(self._most), state.allowed + 1 / state.allowed)

    def busy(self, pause: float) -> None:
        """The registry asked to slow down.

        Args:
            pause: Seconds in which nothing is sent to it.
        """
        with self._state() as state:
            now = self._clock()
            if now >= state.closed_until:
                # Those that were under way at the time all hear the same; it counts once.
                state.allowed = max(1.0, state.allowed / 2)
            state.closed_until = max(state.closed_until, now + min(pause, LONGEST_PAUSE))

    def spend(self, size: int, sleep: Callable[[float], object]) -> None:
        """Pay for `size` bytes; waits where they are more than the rate allows."""
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
    """The gates of this process, one for each registry, and how patient it is."""

    def __init__(
        self,
        *,
        requests: int = REQUESTS_AT_ONCE,
        rate: float | None = None,
        first_wait: float = FIRST_WAIT,
    ) -> None:
        """No gate yet.

        Args:
            requests: Most requests at once to one registry.
            rate: Bytes a second to or from one registry; None for no limit.
            first_wait: Seconds before a second try of what failed; doubled each time.
        """
        self.first_wait = first_wait
        self._requests = requests
        self._rate = rate
        self._gates: dict[str, Gate] = {}
        self._lock = threading.Lock()

    def of(self, registry: Registry) -> Gate:
        """The gate of a registry, the same one each time."""
        key = registry.base_url
        with self._lock:
            if key not in self._gates:
                self._gates[key] = self._make(key)
            return self._gates[key]

    def _make(self, key: str) -> Gate:
        return Gate(key, self._requests, self._rate)


SHARED = Limits()
"""What copies use that are given no limits of their own."""


@contextmanager
def all_entered(gates: Iterable[Gate], sleep: Callable[[float], object]) -> Iterator[None]:
    """A place at each of several registries, taken in one order so that two copies can't lock each other out."""
    with ExitStack() as stack:
        for gate in sorted(set(gates), key=lambda one: one.key):
            stack.enter_context(gate.entered(sleep))
        yield
