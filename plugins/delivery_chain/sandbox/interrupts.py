"""Being asked to stop: Ctrl-C, a closed terminal, a service manager's or CI's SIGTERM. All end a command alike."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """One of NUMBERS came."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number


@contextmanager
def raised() -> Iterator[None]:
    """Raise `Interrupted` in the main thread for each of NUMBERS, but for those that this process was told to ignore.

    A shell starts its background jobs with SIGINT ignored, and `nohup` its program with SIGHUP: that stays so.
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
    """Let none of NUMBERS in between what belongs together, such as a start and its record; it comes afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, NUMBERS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
