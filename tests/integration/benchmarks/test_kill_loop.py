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
"""Few pushes, because each is a whole run of a chain, and the test machine may be small."""


def test_nothing_is_lost_doubled_let_through_or_left(tmp_path: Path) -> None:
    """Registries, receiver, Airflow's records and the machine show the right outcome of each push."""
    output = io.StringIO()
    tmp_path.chmod(0o755)
    result = Loop(Layout(tmp_path / "loop"), OPTIONS, Console(output)).run()
    print(output.getvalue())  # noqa: T201 - pytest shows it where the test fails: what was killed, and when
    assert result.violations == []
    # Otherwise the test would prove little.
    assert (result.pushes, sum(result.kills.values()) >= OPTIONS.kills // 2) == (10, True)
