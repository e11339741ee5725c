"""Ends of a run, in lists and in the documentation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from delivery_chain.core.run.end import End, in_a_word
from delivery_chain.core.run.marks import Mark
from delivery_chain.core.run.state import outcome
from support.run_facts import AFTER_GATE, BLOCKED_RUN, tasks


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


def test_a_step_that_was_cleared_and_stopped_has_no_old_result() -> None:
    """That somebody cleared it is no word of what it would have done."""
    tasks_ = tasks(**AFTER_GATE | {"gate": "skipped", "publish": "skipped", "denied": "skipped"})
    cleared = (Mark(by="anna", what="cleared", step="gate"),)
    found = outcome(replace(BLOCKED_RUN, tasks=tasks_, marks=cleared))
    assert (found.end, found.step) == (End.FAILED, "gate")
