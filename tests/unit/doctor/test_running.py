from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from delivery_chain.core.diagnosis import Check, Line, ok, problem
from delivery_chain.doctor import running
from delivery_chain.doctor.running import run_all
from delivery_chain.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator


def fine(name: str) -> Check:
    return Check("t", name, lambda: [ok("t", name, "well")])


def test_one_that_hangs_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time is bounded, and the rest is looked at; also where as many hang as are asked at once."""
    monkeypatch.setattr(running, "AT_ONCE", 2)
    never = threading.Event()

    def hang() -> Iterator[Line]:
        never.wait()
        yield ok("t", "late", "never said")

    try:
        found = run_all([Check("t", "a", hang, 0.05), Check("t", "b", hang, 0.05), fine("c")])
    finally:
        never.set()
    remedy = "find out what keeps it from responding to this machine: its load, a firewall, a proxy"
    late = [problem("t", name, "no answer within 0.05 s", remedy) for name in "ab"]
    assert found == [*late, ok("t", "c", "well")]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            ConfigurationError("field x: wrong"),
            problem("t", "a", "field x: wrong", "follow the message, and run this again"),
        ),
        (
            ZeroDivisionError("division"),
            problem(
                "t",
                "a",
                "the check itself failed: ZeroDivisionError: division",
                "please report it; the other lines are valid",
            ),
        ),
    ],
)
def test_one_that_breaks_stops_no_other(error: Exception, line: Line) -> None:
    """What it raises is its line."""

    def broken() -> Iterator[Line]:
        raise error
        yield

    assert run_all([Check("t", "a", broken), fine("b")]) == [line, ok("t", "b", "well")]


def test_they_run_side_by_side() -> None:
    """Both have to be under way at once to get anywhere."""
    meeting = threading.Barrier(2)

    def meet() -> list[Line]:
        meeting.wait(30)
        return []

    assert run_all([Check("t", "a", meet), Check("t", "b", meet)]) == []


def test_nothing_to_look_at() -> None:
    """No check, no line."""
    assert run_all([]) == []
