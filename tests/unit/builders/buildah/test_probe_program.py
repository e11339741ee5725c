"""The program of the probe build."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from delivery_chain.builders.buildah.probe_program import exit_program

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.skipif(exit_program(os.uname().machine) is None, reason="no program for this machine")
def test_program_runs(tmp_path: Path) -> None:
    """It ends with 0 and prints nothing."""
    program = tmp_path / "program"
    program.write_bytes(exit_program(os.uname().machine) or b"")
    program.chmod(0o755)
    done = subprocess.run([str(program)], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_unknown_machines_have_none() -> None:
    """A machine without one is probed without running anything."""
    assert exit_program("riscv64") is None
