"""Output on a pipe and on a terminal."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

from delivery_chain.sandbox import console
from delivery_chain.sandbox.console import Console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("LINES", "4")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


def test_a_pipe_gets_no_control_sequences() -> None:
    """Nothing is redrawn and nothing coloured where no terminal is."""
    stream = io.StringIO()
    out = Console(stream)
    out.redraw([("one", "green")])
    out.line(out.paint("two", "red"))
    assert stream.getvalue() == "two\n"


def test_a_block_is_drawn_over_itself(terminal: Terminal) -> None:
    """The second drawing moves up by the lines of the first."""
    out = Console(terminal)
    out.redraw([("a", ""), ("b", "")])
    terminal.truncate(0)
    terminal.seek(0)
    out.redraw([("c", ""), ("d", "")])
    assert terminal.getvalue() == "\x1b[2A\r\x1b[2Kc\n\x1b[2Kd\n\x1b[J"


def test_a_block_fits_the_screen(terminal: Terminal) -> None:
    """Long lines are cut and a long block loses its first lines, else moving up would miss them."""
    Console(terminal).redraw([(f"{number}" + "x" * 30, "") for number in range(5)])
    shown = [line.removeprefix("\r").removeprefix("\x1b[2K") for line in terminal.getvalue().split("\n")[:-1]]
    assert shown == [f"{number}" + "x" * 18 for number in (2, 3, 4)]


@pytest.mark.parametrize(
    ("value", "text"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (59.4, "59 s"), (125.7, "2 min 05 s")]
)
def test_durations_are_for_people(value: float, text: str) -> None:
    """Tenths only where they matter."""
    assert console.seconds(value) == text


def test_a_reader_that_went_away_stops_nothing() -> None:
    """Output to a pipe that nobody reads any more is dropped, and the command goes on to its end."""
    script = (
        "from delivery_chain.sandbox.console import Console; out = Console()\n"
        "for _ in range(1000): out.line('x' * 1000)\n"
        "import sys; sys.exit(7)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 7
