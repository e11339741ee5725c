"""The conditions under which the demo reports success."""

from __future__ import annotations

from dataclasses import replace

import pytest

from delivery_chain.sandbox.demo import Seen, Watched, judge
from delivery_chain.sandbox.source import Push

REGIONS = ("cn-hangzhou", "ap-southeast-1", "eu-central-1")
CLEAN = Seen("v1.0.0", "success", "", dict.fromkeys(REGIONS, "sha256:a"))
BLOCKED = Seen("v1.1.0", "failed", "denied", dict.fromkeys(REGIONS, ""))


def test_the_expected_outcome_has_no_problem() -> None:
    """The clean release everywhere under one digest, the other one denied and nowhere."""
    assert judge(CLEAN, BLOCKED) == []


@pytest.mark.parametrize(
    ("clean", "blocked", "said"),
    [
        (replace(CLEAN, state="failed", ended_at="replicate"), BLOCKED, "found failed at replicate"),
        (replace(CLEAN, digests=CLEAN.digests | {"eu-central-1": ""}), BLOCKED, "one digest"),
        (replace(CLEAN, digests=CLEAN.digests | {"eu-central-1": "sha256:b"}), BLOCKED, "one digest"),
        (CLEAN, replace(BLOCKED, state="success", ended_at=""), "found success"),
        (CLEAN, replace(BLOCKED, ended_at="build"), "found failed at build"),
        (
            CLEAN,
            replace(BLOCKED, digests=BLOCKED.digests | {"eu-central-1": "sha256:b"}),
            "found it in eu",
        ),
    ],
    ids=["clean failed", "a region lacks it", "regions differ", "not blocked", "failed elsewhere", "leaked"],
)
def test_anything_else_is_a_problem(clean: Seen, blocked: Seen, said: str) -> None:
    """Each way in which the demo can fail is reported."""
    (problem,) = judge(clean, blocked)
    assert said in problem


@pytest.mark.parametrize(
    ("run_id", "said"),
    [("", "v1 clean (no run yet)"), ("r1", "v1 clean (between two steps)")],
)
def test_what_is_waited_for_where_no_step_runs(run_id: str, said: str) -> None:
    """The run has not begun, or its next step has not."""
    assert Watched(Push("api", "tag", "v1", "a" * 40, vulnerable=False), run_id=run_id).doing == said
