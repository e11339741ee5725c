"""Turns Ctrl-C, a closed terminal and a service manager's or CI's SIGTERM into one exception."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """The process received one of NUMBERS."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number


@contextmanager
def raised() -> Iterator[None]:
    """Raise `Interrupted` in the main thread for each of NUMBERS, except those that this process ignores.

    A shell starts background jobs with SIGINT ignored, and `nohup` starts its program with SIGHUP ignored: both stay
    ignored.
    """
    before = {number: signal.getsignal(number) for number in NUMBERS}
    taken = [number for number, known in before.items() if known is not signal.SIG_IGN]
    for number in taken:
        signal.signal(number, _raise)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, before[number])


def _raise(number: int, _frame: FrameType | None) -> None:
    raise Interrupted(signal.Signals(number))


@contextmanager
def held() -> Iterator[None]:
    """Block NUMBERS while an atomic sequence runs, such as a start and its record; they are delivered afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
