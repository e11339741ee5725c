"""Ends of a run, in lists and in the documentation."""

from __future__ import annotations

from pathlib import Path

import pytest

from delivery_chain.core.run.end import End, in_a_word


def test_every_end_is_in_the_documentation() -> None:
    """One row each, in the order of their definition."""
    text = (Path(__file__).parents[4] / "docs" / "runs.md").read_text("utf-8").partition("\n## Cancel")[0]
    rows = [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")]
    assert rows == [str(end) for end in End]


@pytest.mark.parametrize(
    ("state", "note", "word"),
    [
        ("success", "delivered: so", "success"),
        ("success", "blocked: so; marked as success by anna", "success (blocked)"),
        ("success", "superseded: so", "success (superseded)"),
        ("failed", "partly delivered: so", "failed (partly delivered)"),
        ("failed", "delivered: so; marked as failed by anna", "failed (delivered)"),
        ("failed", "cancelled by anna in plan; nothing was built", "failed (cancelled)"),
        ("failed", "cancelled in plan; nothing was built", "failed (cancelled)"),
        ("failed", "failed in plan: so", "failed"),
        ("failed", "blocked until Monday", "failed"),
        ("success", "", "success"),
        ("running", "failed in plan: so", "running"),
        ("gone", "", "gone"),
    ],
)
def test_a_state_in_a_list(state: str, note: str, word: str) -> None:
    """Airflow's, and the end in brackets where the state would be taken for another; people's notes say nothing."""
    assert in_a_word(state, note) == word
