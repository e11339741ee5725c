from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from delivery_chain.core.events.gaps import changes
from delivery_chain.core.events.ledger import Entry, Seen, StartResult, join
from delivery_chain.core.events.unplanned import Unplanned

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
WAITS = "run run-1 of shop has no plan yet, since 2026-11-23 11:50 UTC: its task `plan` "
FAILED = (
    "run run-1 of shop has no plan: its task `plan` has been {} since 2026-11-23 11:50 UTC. "
    "Fix the cause in its log, then clear `plan` and everything downstream"
)


def without(**given: Any) -> Unplanned:
    whole = {
        "chain": "shop",
        "run_id": "run-1",
        "state": "",
        "tries": 0,
        "since": NOW - timedelta(minutes=10),
    }
    return Unplanned(**(whole | given))


@pytest.mark.parametrize(
    ("given", "gap"),
    [
        ({"state": "up_for_retry", "tries": 1}, f"{WAITS}failed, and is retried automatically (try 1)"),
        ({"state": "up_for_retry", "tries": 7}, f"{WAITS}failed, and is retried automatically (try 7)"),
        ({"state": "running", "tries": 2}, f"{WAITS}failed, and is retried automatically (try 2)"),
        ({"state": "queued", "tries": 1}, f"{WAITS}is queued"),
        ({}, f"{WAITS}is not scheduled"),
        ({"since": NOW - timedelta(minutes=4)}, ""),
        ({"state": "running", "tries": 1, "since": NOW}, ""),
        ({"state": "failed", "tries": 4, "error": "ValueError"}, FAILED.format("failed")),
        ({"state": "failed", "tries": 1, "error": "ConfigurationError"}, FAILED.format("failed")),
        ({"state": "failed", "tries": 1, "since": NOW}, FAILED.replace("11:50", "12:00").format("failed")),
        ({"state": "upstream_failed"}, FAILED.format("upstream_failed")),
        ({"state": "failed", "tries": 1, "error": "EventRefused"}, ""),
        ({"state": "failed", "tries": 1, "error": "UsageError"}, ""),
    ],
)
def test_a_run_without_a_plan_is_a_gap(given: dict[str, Any], gap: str) -> None:
    """From its first failure on, or when it takes too long; a refusal is an answer."""
    assert without(**given).gap(NOW) == gap


@pytest.mark.parametrize(("chain", "gaps"), [("shop", (f"{WAITS}is queued",)), ("other", ())])
def test_it_is_the_gap_of_the_push_that_made_it(chain: str, gaps: tuple[str, ...]) -> None:
    """However often it was told; another run of that id is another chain's."""
    outcome = StartResult(chain=chain, rule="release", run_id="run-1", made=True)
    told = [
        Entry(ref="refs/tags/v1", commit="a" * 40, at=NOW - ago, by="webhook gh", outcomes=(outcome,))
        for ago in (timedelta(minutes=9), timedelta(minutes=8))
    ]
    found = join(Seen("place", one) for one in told)
    run = without(state="queued", tries=1)
    (change,) = changes(found, {}, NOW, {(run.chain, run.run_id): run})
    assert change.gaps == gaps
