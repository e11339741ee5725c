from __future__ import annotations

from datetime import UTC, datetime

import pytest

from delivery_chain.core.events.ledger import Entry, StartResult

AT = datetime(2026, 5, 20, 12, tzinfo=UTC)
A = "a" * 40


def entry(*outcomes: StartResult, commit: str = A, why: str = "") -> Entry:
    return Entry(ref="refs/heads/main", commit=commit, at=AT, by="sensor", outcomes=outcomes, why=why)


@pytest.mark.parametrize(
    ("outcome", "sentence"),
    [
        (StartResult(chain="shop", rule="main", run_id="r1", made=True), "shop (main): run r1"),
        (StartResult(chain="base", run_id="r1", made=True), "base: run r1"),
        (StartResult(chain="shop", rule="main", run_id="r1"), "shop (main): already run r1"),
        (
            StartResult(chain="shop", rule="main", run_id="r1", made=True, why="paused"),
            "shop (main): run r1, paused",
        ),
        (
            StartResult(chain="shop", rule="main", why="no such Dag"),
            "shop (main): no run, no such Dag",
        ),
    ],
)
def test_what_a_chain_made_of_it(outcome: StartResult, sentence: str) -> None:
    """One sentence: the run, whether it was there already, or why there is none."""
    assert outcome.sentence == sentence


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (
            entry(StartResult(chain="shop", rule="main", run_id="r1", made=True)),
            "refs/heads/main is at aaaaaaaaaaaaaaaaaaa: shop (main): run r1",
        ),
        (
            entry(why="no build rule matches"),
            "refs/heads/main is at aaaaaaaaaaaaaaaaaaa: no build rule matches",
        ),
        (entry(), "refs/heads/main is at aaaaaaaaaaaaaaaaaaa: no run"),
        (
            entry(commit="", why="deleted, so there is nothing to run"),
            "refs/heads/main was deleted: deleted, so there is nothing to run",
        ),
        (
            entry(
                StartResult(chain="shop", rule="main", run_id="r1"),
                StartResult(chain="web", rule="main", why="no such Dag"),
                why="a redelivery",
            ),
            (
                "refs/heads/main is at aaaaaaaaaaaaaaaaaaa: shop (main): already run r1; "
                "web (main): no run, no such Dag, a redelivery"
            ),
        ),
    ],
)
def test_one_line_of_a_change(found: Entry, sentence: str) -> None:
    """What happened, and all that came of it."""
    assert found.sentence == sentence


def test_it_comes_back_from_airflows_log() -> None:
    """What is not said takes no room, and nothing is lost."""
    one = entry(StartResult(chain="shop", rule="main", run_id="r1", made=True), why="x")
    text = one.model_dump_json(exclude_defaults=True)
    assert Entry.model_validate_json(text) == one
    assert "delivery_id" not in text
    assert Entry.from_xcom(one.to_xcom()) == one
