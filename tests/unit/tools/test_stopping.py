"""How a task's work is stopped when Airflow asks for it."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from delivery_chain.errors import TaskStopped
from delivery_chain.tools import process
from delivery_chain.tools.stopping import stop, stoppable

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def on_term() -> Iterator[None]:
    """SIGTERM calls `stop` and then continues, as Airflow's task runner calls `on_kill`."""
    before = signal.signal(signal.SIGTERM, lambda *_: stop())
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_block_is_left_and_may_be_retried() -> None:
    """Nothing on the way takes it for a failure."""
    reached = []

    def work() -> None:
        try:
            stop()
        except Exception:  # noqa: BLE001 - what must not catch it
            reached.append("caught")
        reached.append("went on")

    with pytest.raises(TaskStopped, match="A retry starts it over") as caught, stoppable():
        work()
    assert (reached, caught.value.retryable) == ([], True)


def test_outside_of_a_block_nothing_is_interrupted() -> None:
    """What is done when the work is over, such as the clean-up, goes to its end."""
    stop()
    with stoppable():
        pass
    stop()


def test_another_threads_work_is_not_this_ones() -> None:
    """An exception would end a thread that has nothing to do with it."""
    raised: list[BaseException] = []

    def other() -> None:
        try:
            stop()
        except BaseException as error:  # noqa: BLE001 - shown
            raised.append(error)

    with stoppable():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert raised == []


def test_a_second_signal_leaves_the_clean_up_alone() -> None:
    """Airflow sends one; people send more."""
    done = []

    def work() -> None:
        try:
            stop()
        finally:
            stop()
            done.append("cleaned up")

    with pytest.raises(TaskStopped), stoppable():
        work()
    assert done == ["cleaned up"]


@pytest.mark.usefixtures("on_term")
def test_a_program_is_killed_without_a_grace() -> None:
    """Airflow allows 5 s in total; a program that ignores SIGTERM is killed at once, with its children."""
    script = "trap '' TERM; sleep 4713 & echo begun; wait"
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        signal.raise_signal(signal.SIGTERM)

    options = {"tool": "sh", "env": process.base_env(), "deadline": time.monotonic() + 60, "merge": True}
    with pytest.raises(TaskStopped), stoppable():
        process.run(["sh", "-c", script], on_line=on_line, **options)  # type: ignore[arg-type]
    assert lines == ["begun"]
    listing = subprocess.run(["ps", "-eo", "args"], check=True, capture_output=True, text=True).stdout
    assert "sleep 4713" not in listing.splitlines()
