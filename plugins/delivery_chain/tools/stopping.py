"""Stop a task at once when Airflow asks for it, because the run is cancelled or the worker shuts down.

Airflow calls `on_kill` from its SIGTERM handler, lets the task continue, and kills the process 5 s later, so that no
`finally` ever runs. This module interrupts the work with an exception instead, so that programs are killed and folders
removed.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from delivery_chain.errors import TaskStopped

if TYPE_CHECKING:
    from collections.abc import Iterator


class Stopping(BaseException):
    """Raised to stop the work. Not an `Exception`, so that no handler on the way treats it as a failure."""


_working_in: int | None = None
"""Thread that is in a stoppable block; a task's process has at most one such block at a time."""


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Run a block that `stop` can interrupt.

    Raises:
        TaskStopped: The block was interrupted. Retryable.
    """
    global _working_in  # noqa: PLW0603 - a signal is sent to the process, so the block is a global, too
    before, _working_in = _working_in, threading.get_ident()
    try:
        yield
    except Stopping:
        raise TaskStopped(
            "the task was asked to stop (SIGTERM), because its state or its run's was set, or its worker shuts down; "
            "its work was stopped and removed. A retry starts it over"
        ) from None
    finally:
        _working_in = before


def stop() -> None:
    """Interrupt the block if this thread is in one; otherwise, and the second time, do nothing. For `on_kill`."""
    global _working_in  # noqa: PLW0603
    if _working_in == threading.get_ident():
        _working_in = None
        raise Stopping
