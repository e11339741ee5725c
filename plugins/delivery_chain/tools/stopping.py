"""Ends a task at once when Airflow says so: a cancelled run's, or that of a worker that is being stopped.

Airflow then calls `on_kill` from the handler of SIGTERM, goes on with the task as if nothing had been, and kills the
process 5 s later, so that no `finally` ever runs. Here the work is left by an exception instead: programs are killed,
folders removed.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from delivery_chain.errors import TaskStopped

if TYPE_CHECKING:
    from collections.abc import Iterator


class Stopping(BaseException):
    """The work ends now. Not an `Exception`, so that nothing on the way takes it for a failure and goes on."""


_working_in: int | None = None
"""The thread that is in a block that may be left; a task's process has one such block at a time."""


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """A block that `stop` leaves.

    Raises:
        TaskStopped: It was left. Retryable.
    """
    global _working_in  # noqa: PLW0603 - a signal is the process's, and so is what it ends
    before, _working_in = _working_in, threading.get_ident()
    try:
        yield
    except Stopping:
        raise TaskStopped(
            "the task was told to end (SIGTERM), because somebody marked it or its run, or because its worker stops; "
            "what it had under way was stopped and removed. A retry starts it over"
        ) from None
    finally:
        _working_in = before


def stop() -> None:
    """Leave the block, where this thread is in one; else, and the second time, do nothing. For `on_kill`."""
    global _working_in  # noqa: PLW0603
    if _working_in == threading.get_ident():
        _working_in = None
        raise Stopping
