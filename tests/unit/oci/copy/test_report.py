"""Progress as values, and as displayed."""

from __future__ import annotations

import io

import pytest

from delivery_chain.oci.copy.progress import Meter, Progress, TargetProgress
from delivery_chain.oci.copy.report import LiveLines, PacedLog, size_text, time_text

ROW = TargetProgress("eu/a", 1, 3, 50_000_000, 2_000_000_000, 50_000_000, 310e6, 6.3)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_meter_counts_per_target() -> None:
    """Bytes that were there or mounted count as done, not as sent; the rate is that of the last seconds."""
    clock = Clock()
    meter = Meter(("eu/a", "us/a"), clock=clock)
    meter.expect("eu/a", 2, 3000)
    meter.sent("eu/a", 500)
    clock.now = 1.0
    meter.sent("eu/a", 500)
    meter.blob_done("eu/a")
    one, other = meter.now().targets

    assert one == TargetProgress("eu/a", 1, 2, 1000, 3000, 1000, 500.0, 4.0)
    assert other == TargetProgress("us/a", 0, 0, 0, 0, 0, 0.0, 0.0)


def test_reports_come_ten_times_a_second_at_most() -> None:
    """However many pieces move, and the end is always told."""
    clock = Clock()
    seen: list[Progress] = []
    meter = Meter(("eu/a",), seen.append, clock=clock)
    meter.expect("eu/a", 1, 100)
    for _ in range(100):
        clock.now += 0.01
        meter.sent("eu/a", 1)
    meter.finish()

    assert 10 <= len(seen) <= 12
    assert seen[-1].targets[0].bytes_done == 100


def test_a_log_is_written_at_a_human_pace() -> None:
    """A line at the start, at most every ten seconds, and at the end."""
    clock = Clock()
    lines: list[str] = []
    log = PacedLog(lines.append, clock=clock)
    for second in range(25):
        clock.now = float(second)
        log(Progress(clock.now, (ROW,)))
    done = TargetProgress("eu/a", 3, 3, 2_000_000_000, 2_000_000_000, 2_000_000_000, 310e6, 0.0)
    log(Progress(25.0, (done,)))
    log.close()
    log.close()

    assert lines == [
        *["eu/a: 1 of 3 blobs, 50.0 MB of 2.0 GB, 310 MB/s, 6 s left"] * 3,
        "eu/a: all 3 blobs, 2.0 GB (2.0 GB sent)",
    ]


def test_a_terminal_gets_its_lines_drawn_over() -> None:
    """One line a target, cut to the width; the second drawing goes back up over the first."""
    stream = io.StringIO()
    live = LiveLines(stream, 20)
    live(Progress(0.0, (ROW, ROW)))
    live(Progress(1.0, (ROW, ROW)))

    line = "\x1b[2Keu/a: 1 of 3 blobs,\n"
    assert stream.getvalue() == line * 2 + "\x1b[2F" + line * 2


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (310e6, "310 MB"), (2e9, "2.0 GB"), (5e15, "5000.0 TB")],
)
def test_sizes(value: float, text: str) -> None:
    """Three digits and a unit."""
    assert size_text(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.2, "0 s"), (125, "2 min 5 s"), (4200, "1 h 10 min")])
def test_times(value: float, text: str) -> None:
    """Two units at most."""
    assert time_text(value) == text
