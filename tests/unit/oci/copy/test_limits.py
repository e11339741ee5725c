"""Limits on the use of registries: concurrency, delays, rates and retries."""

from __future__ import annotations

import threading

import pytest

from delivery_chain.core.names.registry import Registry
from delivery_chain.errors import (
    ContentMismatch,
    NotFound,
    RegistryBusy,
    RegistryError,
    RegistryFailure,
    RegistryUnreachable,
)
from delivery_chain.oci.copy.limits import Gate, Limits
from delivery_chain.oci.copy.retry import ATTEMPTS, BUSY_ATTEMPTS, WRONG_BYTES_ATTEMPTS, Retrier, Stopped

HOME = Registry(host="127.0.0.1:1", plain_http=True)


class Clock:
    """A clock that advances only during sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def test_a_busy_registry_gets_half_and_comes_back() -> None:
    """Halved for each time it is busy, one at least; one more a round of requests that work, eight at most."""
    clock = Clock()
    gate = Gate("k", 8, None, clock=clock)
    seen = []
    for _ in range(5):
        gate.busy(1)
        seen.append(gate.allowed)
        clock.now += 2
    for _ in range(100):
        gate.worked()

    assert seen == [4, 2, 1, 1, 1]
    assert gate.allowed == 8


def test_requests_that_were_under_way_count_once() -> None:
    """Eight that hear 429 at the same moment halve the limit once."""
    gate = Gate("k", 8, None, clock=Clock())
    for _ in range(8):
        gate.busy(5)

    assert gate.allowed == 4


def test_nothing_goes_out_during_a_pause() -> None:
    """Who enters waits for the time that the registry asked for."""
    clock = Clock()
    gate = Gate("k", 2, None, clock=clock)
    gate.busy(7)

    with gate.entered(clock.sleep):
        assert clock.now == 107


def test_places_are_given_back_when_work_fails() -> None:
    """An error in the one place there is leaves it free for the next."""
    gate = Gate("k", 1, None)
    for _ in range(2):
        with pytest.raises(RuntimeError), gate.entered(lambda _: None):
            raise RuntimeError


def test_the_rate_holds_over_time() -> None:
    """Ten pieces of 1 MB at 2 MB/s take five seconds, less the quarter that may go out at once."""
    clock = Clock()
    gate = Gate("k", 1, 2_000_000, clock=clock)
    for _ in range(10):
        gate.spend(1_000_000, clock.sleep)

    assert clock.now - 100 == pytest.approx(4.75)


def test_a_registry_has_one_gate() -> None:
    """Copies of one process share it, other registries have their own."""
    limits = Limits()
    other = Registry(host="127.0.0.1:2", plain_http=True)

    assert limits.of(HOME) is limits.of(Registry(host=HOME.host, username="u", plain_http=True))
    assert limits.of(HOME) is not limits.of(other)


TRIES: dict[str, tuple[RegistryError, int]] = {
    "not retryable": (NotFound("x"), 1),
    "gone": (RegistryUnreachable("x"), ATTEMPTS),
    "failed": (RegistryFailure("x"), ATTEMPTS),
    "wrong bytes": (ContentMismatch("x"), WRONG_BYTES_ATTEMPTS),
    "busy": (RegistryBusy("x", retry_after=0), BUSY_ATTEMPTS),
    "busy for an hour": (RegistryBusy("x", retry_after=3600), 1),
}


@pytest.mark.parametrize(("error", "expected"), TRIES.values(), ids=TRIES)
def test_hope_ends(error: RegistryError, expected: int) -> None:
    """Each kind of error has its number of tries, and the last error is the one that is raised."""
    tries = []

    def work() -> None:
        tries.append(1)
        raise error

    with pytest.raises(type(error)):
        Retrier(Limits(first_wait=0.00001), threading.Event()).call(HOME, work)

    assert len(tries) == expected


def test_what_works_is_given_back() -> None:
    """After failures that pass, the answer comes through."""
    errors: list[RegistryError] = [RegistryUnreachable("x"), RegistryBusy("x", retry_after=0)]

    def work() -> str:
        if errors:
            raise errors.pop()
        return "done"

    assert Retrier(Limits(first_wait=0.00001), threading.Event()).call(HOME, work) == "done"


def test_a_stop_ends_every_wait() -> None:
    """A copy that was ended from outside does not sit out a pause."""
    stop = threading.Event()

    def work() -> None:
        stop.set()
        raise RegistryBusy("x", retry_after=50)

    with pytest.raises(Stopped):
        Retrier(Limits(), stop).call(HOME, work)
