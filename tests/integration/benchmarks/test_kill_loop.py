"""Three minutes of the kill loop: real parts are killed at random, and nothing is lost, doubled or left behind."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from benchmarks.kill_loop.loop import Loop, Options

from delivery_chain.sandbox.console import Console
from delivery_chain.sandbox.layout import Layout

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration
OPTIONS = Options(seed=7, minutes=3, pushes=6, kills=12, quiet_minutes=8)
"""Few pushes: the machine that tests may be small, and each is a whole run of a chain."""


def test_nothing_is_lost_doubled_let_through_or_left(tmp_path: Path) -> None:
    """What came of each push is right in the registries, at the receiver, in Airflow's records and on the machine."""
    output = io.StringIO()
    tmp_path.chmod(0o755)
    result = Loop(Layout(tmp_path / "loop"), OPTIONS, Console(output)).run()
    print(output.getvalue())  # noqa: T201 - pytest shows it where the test fails: what was killed, and when
    assert result.violations == []
    # Else it would have shown little.
    assert (result.pushes, sum(result.kills.values()) >= OPTIONS.kills // 2) == (10, True)
