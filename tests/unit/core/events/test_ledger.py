from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_chain.core.events.ledger import Entry, LedgerLine, Seen, Sight, StartResult, join, parse_since
from delivery_chain.errors import UsageError

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
A, B = "a" * 40, "b" * 40
PLACE = "delivery-chain-source--git--shop-api-000000"
REF = "refs/tags/v1.0.0"


def outcome(run: str = "run-1", **given: Any) -> StartResult:
    return StartResult(**{"chain": "shop-api", "rule": "release", "run_id": run, "made": True} | given)


def seen(by: str, after: float = 0, *outcomes: StartResult, place: str = PLACE, **given: Any) -> Seen:
    whole = {
        "ref": REF,
        "commit": A,
        "at": NOW + timedelta(seconds=after),
        "by": by,
        "outcomes": outcomes,
    } | given
    return Seen(place, Entry.model_validate(whole))


def changes(*found: Seen) -> list[LedgerLine]:
    return [line.change() for line in join(found)]


def told(change: LedgerLine) -> tuple[str, float, int, list[tuple[str, float, int]]]:
    """Who saw it: the first, when, how often, and the others."""
    also = [(sight.by, sight.after, sight.times) for sight in change.also]
    return change.by, (change.at - NOW).total_seconds(), change.times, also


def test_a_webhook_and_the_sensor_are_one_line() -> None:
    """What both saw is one change: the webhook first, the sensor 4 s later, one run, and who pushed."""
    found = changes(
        seen("sensor", 4, outcome(made=False)),
        seen("webhook gh", 0, outcome(), actor="mona", delivery_id="1"),
    )
    assert found == [
        LedgerLine(
            place=PLACE, ref=REF, commit=A, at=NOW, by="webhook gh", last=NOW + timedelta(seconds=4), actor="mona",
            also=(Sight(by="sensor", after=4.0),), outcomes=(outcome(),),
        )
    ]  # fmt: skip


def test_redeliveries_are_counted() -> None:
    """The same delivery again, days later and after another commit: no line of its own."""
    found = changes(
        seen("webhook gh", 0, outcome(), delivery_id="1"),
        seen("webhook gh", 60, outcome("run-2"), commit=B, delivery_id="2"),
        seen("webhook gh", 300000, outcome(made=False), delivery_id="1", why="a redelivery"),
    )
    assert [(change.commit, *told(change), change.why) for change in found] == [
        (B, "webhook gh", 60.0, 1, [], ""),
        (A, "webhook gh", 0.0, 2, [], ""),
    ]


def test_a_redelivery_without_a_run_is_known_by_its_id() -> None:
    """Of a ref that no rule takes, the delivery's id tells it."""
    found = changes(
        seen("webhook gh", 0, delivery_id="1"),
        seen("webhook gh", 60, commit=B, delivery_id="2"),
        seen("webhook gh", 90, delivery_id="1"),
    )
    assert [(change.commit, change.times) for change in found] == [(B, 1), (A, 2)]


def test_there_and_back_again_are_three_lines() -> None:
    """A, B, A: the run's number tells the second stay at A, and where there are no runs, the B between them."""
    with_runs = changes(
        seen("webhook gh", 0, outcome("a1")),
        seen("webhook gh", 10, outcome("b1"), commit=B),
        seen("sensor", 11, outcome("a2")),
        seen("webhook gh", 12, outcome("a2", made=False)),
    )
    assert [(change.commit[0], change.outcomes[0].run_id, len(change.also)) for change in with_runs] == [
        ("a", "a2", 1),
        ("b", "b1", 0),
        ("a", "a1", 0),
    ]
    without = changes(
        seen("webhook gh", 0), seen("webhook gh", 10, commit=B), seen("webhook gh", 12), seen("sensor", 14)
    )
    assert [(change.commit[0], told(change)[1], len(change.also)) for change in without] == [
        ("a", 12.0, 1),
        ("b", 10.0, 0),
        ("a", 0.0, 0),
    ]


def test_two_runs_are_two_changes() -> None:
    """A second stay at the same commit, with an unreported move in between: two runs, two lines."""
    assert len(changes(seen("webhook gh", 0, outcome("a1")), seen("sensor", 9, outcome("a2")))) == 2


def test_what_a_webhook_could_not_start_the_sensor_did() -> None:
    """A Dag that was not there yet: the run is the sensor's, the first sight the webhook's."""
    (found,) = changes(
        seen("webhook gh", 0, outcome("", made=False, why="Airflow has no such Dag now")),
        seen("sensor", 20, outcome("run-1")),
    )
    assert (*told(found), found.outcomes) == (
        "webhook gh",
        0.0,
        1,
        [("sensor", 20.0, 1)],
        (outcome("run-1"),),
    )


@pytest.mark.parametrize(("behind", "first"), [(1, "webhook gh"), (7, "sensor")])
def test_the_maker_was_first_where_clocks_can_t_tell(behind: float, first: str) -> None:
    """A look takes its time: within seconds, who made the run saw the push first."""
    (found,) = changes(
        seen("webhook gh", 0, outcome()), seen("sensor", -behind, outcome(made=False))
    )  # fmt: skip
    assert found.by == first
    assert all(sight.after >= 0 for sight in found.also)


def test_places_and_refs_are_apart() -> None:
    """The same commit on another ref, or of another source, is another change."""
    assert len(changes(seen("sensor"), seen("sensor", ref="refs/heads/main"), seen("sensor", place=""))) == 3


def test_names_for_people() -> None:
    """A ref's kind and short name, an image as it is, 12 digits, what was deleted, and what could not be resolved."""
    found = changes(
        seen("webhook a", 3, ref="shop/api:v2", commit=""),
        seen("sensor", 2, ref="shop/api:v1", commit=f"sha256:{'c' * 64}"),
        seen("sensor", 1, commit=""),
    )
    assert [(change.name, change.short) for change in found] == [
        ("shop/api:v2", "unknown"),
        ("shop/api:v1", "c" * 12),
        ("tag v1.0.0", "deleted"),
    ]


moments = st.integers(0, 50)
entries = st.builds(
    lambda by, after, commit, run, delivery: seen(
        by, after, *([outcome(f"{commit}{run}")] if run else []), commit=commit * 40, delivery_id=delivery
    ),
    st.sampled_from(["sensor", "webhook a", "webhook b"]),
    moments,
    st.sampled_from("ab"),
    st.integers(0, 2),
    st.sampled_from(["", "1", "2"]),
)


@given(st.lists(entries, max_size=12))
def test_nothing_is_lost_and_no_run_is_in_two_lines(found: list[Seen]) -> None:
    """Whatever comes in: each entry is in one line, lines are of one commit, and a run is in one line alone."""
    lines = join(found)
    assert sorted(id(entry) for line in lines for entry in line.entries) == sorted(
        id(one.entry) for one in found
    )
    assert all(len({entry.commit for entry in line.entries}) == 1 for line in lines)
    runs = [run for line in lines for run in line.runs]
    assert len(runs) == len(set(runs))
    assert [line.entries[0].at for line in lines] == sorted(
        (line.entries[0].at for line in lines), reverse=True
    )
    for line in lines:
        change = line.change()
        assert change.times + sum(sight.times for sight in change.also) == len(line.entries)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30m", NOW - timedelta(minutes=30)),
        ("12h", NOW - timedelta(hours=12)),
        (" 1d ", NOW - timedelta(days=1)),
        ("2026-11-22", datetime(2026, 11, 22, tzinfo=UTC)),
        ("2026-11-22T10:00", datetime(2026, 11, 22, 10, tzinfo=UTC)),
        ("2026-11-22T10:00+02:00", datetime(2026, 11, 22, 8, tzinfo=UTC)),
    ],
)
def test_a_time_as_people_write_it(text: str, expected: datetime) -> None:
    """A length of time up to now, or a time."""
    assert parse_since(text, NOW) == expected


@pytest.mark.parametrize(
    "text",
    ["1x", "", "d", "-1d", "1.5h", "yesterday", "9" * 30 + "d", "2026-13-01", "٣d", "0001-01-01T00:00+23:00"],
)
def test_a_time_that_is_none(text: str) -> None:
    """What is expected is said."""
    with pytest.raises(UsageError, match="expected 30m, 12h, 1d, or a time such as 2026-01-31T12:00"):
        parse_since(text, NOW)
