"""Waiting: its messages, its interruption, and the number of polls."""

from __future__ import annotations

import io
import os
import signal
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from delivery_chain.errors import AirflowUnreachable, ToolError
from delivery_chain.sandbox import api, interrupts
from delivery_chain.sandbox.airflow_parts import beats
from delivery_chain.sandbox.console import Console
from delivery_chain.sandbox.progress import Waiting
from delivery_chain.tools.airflow_rest import Answer

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


class Lines(Console):
    """Tells when two lines were printed."""

    def __init__(self) -> None:
        super().__init__(io.StringIO())
        self.lines: list[str] = []
        self.two = threading.Event()

    def line(self, text: str = "") -> None:
        self.lines.append(text)
        if len(self.lines) > 1:
            self.two.set()


def test_a_long_wait_says_what_for() -> None:
    """Again and again, with the time that has passed; nothing after its end."""
    console = Lines()
    with Waiting(console, "the scheduler", every=0.01):
        assert console.two.wait(30)
    said = len(console.lines)
    assert all(line.startswith("  waiting for the scheduler; 0.") for line in console.lines[:2])
    assert len(console.lines) == said


def test_a_short_wait_says_nothing() -> None:
    """Nor one that does not know yet what for."""
    console = Lines()
    with Waiting(console, "the scheduler"):
        pass
    with Waiting(console, "", every=0.001):
        assert not console.two.wait(0.05)
    assert console.lines == []


def _ask(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    signal.pause()


@pytest.mark.parametrize("number", interrupts.NUMBERS)
def test_each_signal_interrupts(number: signal.Signals) -> None:
    """Ctrl-C, SIGTERM and a closed terminal end a wait, by name."""
    before = signal.signal(number, signal.SIG_DFL)
    try:
        with pytest.raises(interrupts.Interrupted) as caught, interrupts.raised():
            _ask(number)
        assert caught.value.number is number
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_an_ignored_signal_stays_ignored() -> None:
    """As `nohup` and a shell's background jobs want it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupts.raised():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_interrupt_waits_for_what_belongs_together() -> None:
    """It comes once that is done, not in between and not never."""
    done = []

    def start() -> None:
        with interrupts.held():
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("record")
        done.append("never")

    with pytest.raises(interrupts.Interrupted), interrupts.raised():
        start()
    assert done == ["record"]


class Server:
    """Answers with what it was given, one after another; an exception is raised."""

    def __init__(self, *answers: Answer | Exception) -> None:
        self.answers = list(answers)

    def call(self, *_: Any, **__: Any) -> Answer:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    address = "http://127.0.0.1:1"


GOOD = Answer(200, {"dag_runs": [{"dag_run_id": "one"}]}, "")
LOCKED = Answer(500, {}, "database is locked")
SILENCE = AirflowUnreachable("no answer within 30 s", tool="airflow")


def asked(*answers: Answer | Exception, patience: float = 60) -> tuple[api.AirflowApi, Server]:
    found, server = api.AirflowApi("http://127.0.0.1:1", "u", "p", patience=patience), Server(*answers)
    found._server = server  # type: ignore[assignment]
    return found, server


def test_a_slow_answer_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A question is asked again while nothing, or a server error, is answered."""
    monkeypatch.setattr(api, "PAUSE_SECONDS", 0)
    found, _ = asked(SILENCE, LOCKED, GOOD)
    assert found.runs("mine") == [{"dag_run_id": "one"}]


def test_what_changes_something_is_sent_once() -> None:
    """Nobody knows whether it was done."""
    found, server = asked(SILENCE, GOOD)
    with pytest.raises(AirflowUnreachable):
        found.trigger("mine", "one")
    assert server.answers == [GOOD]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [(SILENCE, AirflowUnreachable), (LOCKED, AirflowUnreachable), (Answer(403, {}, "no"), ToolError)],
)
def test_the_end_of_patience_is_an_error(answer: Answer | Exception, kind: type[Exception]) -> None:
    """And a refusal is one at once."""
    found, _ = asked(answer, patience=0)
    with pytest.raises(kind):
        found.runs("mine")


@pytest.mark.parametrize(
    ("part", "health", "missing"),
    [
        ("", {"metadatabase": {"status": "healthy"}}, ""),
        ("", {"metadatabase": {"status": "unhealthy"}}, "its database is unhealthy"),
        ("", {}, "its database is unknown"),
        (
            "scheduler",
            {"scheduler": {"latest_scheduler_heartbeat": (NOW + timedelta(seconds=1)).isoformat()}},
            "",
        ),
        (
            "scheduler",
            {
                "scheduler": {
                    "status": "healthy",
                    "latest_scheduler_heartbeat": (NOW - timedelta(seconds=1)).isoformat(),
                }
            },
            "no heartbeat yet",
        ),
        (
            "triggerer",
            {"triggerer": {"status": None, "latest_triggerer_heartbeat": None}},
            "no heartbeat yet",
        ),
        ("dag_processor", {}, "no heartbeat yet"),
    ],
)
def test_a_part_is_ready_with_a_heartbeat_of_its_own(part: str, health: dict[str, Any], missing: str) -> None:
    """Airflow calls it healthy for half a minute after its predecessor was killed."""
    assert beats(health, part, after=NOW) == missing
