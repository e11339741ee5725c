# ruff: noqa: PLC0415 - Airflow takes seconds to import; only the tests that run pay
"""The ledger, read from a SQLite database of Airflow, and its page with Airflow's own login."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.core.events.ledger import EVENT, LedgerLine
from support.push_records import CHAIN, DAY, HOOK, NOW, PLACE, QUIET, A, B, Records, entry, run_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from delivery_chain.airflow_db.push_events import Ledger


pytestmark = [
    pytest.mark.integration,
    # Imported by Airflow's own web server.
    pytest.mark.filterwarnings("ignore:Using `httpx` with `starlette.testclient`"),
]


def lines(ledger: Ledger) -> list[tuple[str, str, tuple[str, ...], tuple[str, ...]]]:
    """Ref, senders in order, and gaps."""
    return [(one.name, one.by, tuple(sight.by for sight in one.also), one.gaps) for one in ledger.changes]


def test_both_kinds_of_records_are_read(records: Records, read: Callable[..., Ledger]) -> None:
    """A webhook's row and a sensor's XCom for one push form one line; entries that belong to no Dag are included."""
    ref = "refs/tags/v1"
    records.told(PLACE, entry(ref, outcomes=run_of(ref, made=True), actor="mona"))
    records.told(None, entry("refs/heads/x", 500, why="no chain builds it"))
    records.looked(PLACE, entry(ref, 597, by="sensor", outcomes=run_of(ref, made=False)))
    ledger = read()
    assert lines(ledger) == [("branch x", HOOK, (), ()), ("tag v1", HOOK, ("sensor",), ())]
    assert ledger.changes[1] == LedgerLine.model_validate(
        {
            "place": PLACE, "ref": ref, "commit": A, "at": NOW - timedelta(seconds=600), "by": HOOK, "actor": "mona",
            "last": NOW - timedelta(seconds=597), "also": [{"by": "sensor", "after": 3.0}],
            "outcomes": run_of(ref, made=True), "runs": [{"chain": CHAIN, "run_id": "run-v1", "state": "gone"}],
        }
    )  # fmt: skip
    assert (ledger.cut, ledger.skipped, ledger.since) == (False, 0, NOW - DAY)


@pytest.mark.parametrize(
    ("by", "ago", "state"),
    [("sensor", 30, "about to begin"), ("sensor", 600, "gone"), (HOOK, 30, "gone")],
)
def test_a_run_that_is_not_there(
    records: Records, read: Callable[..., Ledger], by: str, ago: float, state: str
) -> None:
    """A change that the sensor saw just now has no run yet, because it names the run before creating it."""
    given = entry("refs/tags/v1", ago, by=by, outcomes=run_of("refs/tags/v1", made=True))
    (records.looked if by == "sensor" else records.told)(PLACE, given)
    assert [run.word for change in read().changes for run in change.runs] == [state]


@pytest.mark.parametrize(
    ("state", "left", "gap"),
    [
        ("success", {}, ()),
        ("skipped", {}, ()),
        ("up_for_retry", {}, ("has no plan yet, ", "failed, and is retried automatically")),
        ("failed", {"error": "ValueError"}, ("has no plan: ", "clear `plan` and everything downstream")),
        ("failed", {}, ("has no plan: ", "clear `plan` and everything downstream")),
        ("failed", {"error": "EventRefused"}, ()),
        # Copied from another task, to make a lost push look like a refused one.
        ("failed", {"error": "EventRefused", "by": "gate"}, ("has no plan: ", "clear `plan`")),
    ],
)
def test_a_push_whose_run_has_no_plan(
    records: Records, read: Callable[..., Ledger], state: str, left: dict[str, Any], gap: tuple[str, ...]
) -> None:
    """It is a gap until it has a plan, with advice; users who may not see the chain learn nothing about it."""
    ref = "refs/tags/v1"
    records.told(PLACE, entry(ref, outcomes=run_of(ref, made=True)))
    records.looked(PLACE, entry(ref, 597, by="sensor", outcomes=run_of(ref, made=False)))
    records.planned("run-v1", state, **left)
    ((_, _, _, gaps),) = lines(read())
    assert len(gaps) == bool(gap)
    assert [text for text in gap if text not in gaps[0]] == []
    assert [one.gaps for one in read(readable={PLACE}).changes] == [()]


def test_only_what_is_recent(records: Records, read: Callable[..., Ledger]) -> None:
    """Nothing older is included, but a push reported just before the start and seen just after is complete."""
    ref = "refs/tags/v1"
    records.told(PLACE, entry(ref, 3602, outcomes=run_of(ref, made=True)), entry("refs/heads/old", 4000))
    records.looked(PLACE, entry(ref, 3599, by="sensor", outcomes=run_of(ref, made=False)))
    assert lines(read(timedelta(hours=1))) == [("tag v1", HOOK, ("sensor",), ())]


def test_records_of_another_version_are_counted(records: Records, read: Callable[..., Ledger]) -> None:
    """Unreadable records are skipped, both whole rows and single entries."""
    good = entry("refs/tags/v1", by="sensor")
    records.told(PLACE, entry(), extra='{"ref": "x", "colour": "red"}')
    records.told(PLACE, entry(), extra="no JSON")
    records.looked(PLACE, value=[good.to_xcom(), {"ref": 7}, None])
    records.looked(PLACE, value="a text")
    ledger = read()
    assert (lines(ledger), ledger.skipped) == ([("tag v1", "sensor", (), ())], 5)


def test_too_much_is_cut_where_both_are_whole(
    records: Records, read: Callable[..., Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If one kind of record is truncated, older ones of the other are omitted, because they would look like gaps."""
    from delivery_chain.airflow_db import push_events

    monkeypatch.setattr(push_events, "MOST_ENTRIES", 3)
    records.told(PLACE, *(entry(f"refs/tags/n{number}", 100 + number) for number in range(5)))
    records.looked(PLACE, entry("refs/tags/old", 1000, by="sensor", outcomes=run_of("old", made=True)))
    ledger = read()
    assert [change.ref[-2:] for change in ledger.changes] == ["n0", "n1", "n2"]
    assert (ledger.cut, ledger.since > NOW - timedelta(seconds=110)) == (True, True)


def test_gaps_of_a_place_that_has_a_sender(records: Records, read: Callable[..., Ledger]) -> None:
    """A push that only the sensor saw is a gap if a connection speaks for its source; for other sources it is not."""
    from airflow.models.connection import Connection

    said = {"sender": "github", "speaks_for": "git_shop other"}
    records.session.add(Connection(conn_id="gh", conn_type="webhook_sender", extra=json.dumps(said)))
    for place in (PLACE, QUIET):
        since = NOW - timedelta(seconds=640)
        outcomes = run_of("v1", made=True)
        records.looked(place, entry(by="sensor", since=since, outcomes=outcomes))
    ledger = read()
    assert {change.place: change.gaps for change in ledger.changes} == {
        PLACE: ("no webhook reported it: the sensor found it, up to 40 s after the push",),
        QUIET: (),
    }
    assert [ledger.watches[place].senders for place in (PLACE, QUIET)] == [("gh",), ()]


LOGGED: dict[str, tuple[str, dict[str, str]]] = {
    "request": ("post_connection", {"connection_id": "gh", "conn_type": "webhook_sender"}),
    "command": ("cli_connections_add", {"full_command": "['airflow', 'connections', 'add', 'gh']"}),
    "word": (EVENT, {}),
}


@pytest.mark.parametrize("known_by", ["since", *LOGGED])
@pytest.mark.parametrize(("ago", "gap"), [(700, True), (100, False)])
def test_the_past_of_a_new_sender_has_no_gaps(
    records: Records, read: Callable[..., Ledger], known_by: str, ago: float, *, gap: bool
) -> None:
    """The start of a sender is known from its connection, or from the event log: its creation, or first delivery."""
    from airflow.models.connection import Connection
    from airflow.models.log import Log
    from sqlalchemy import insert

    made = NOW - timedelta(seconds=ago)
    said = {"sender": "github", "speaks_for": "git_shop"}
    if known_by == "since":
        said["since"] = made.isoformat()
    else:
        event, extra = LOGGED[known_by]
        # An earlier sender had the same name.
        old = {"dttm": NOW - DAY / 2, "event": event, "owner": "webhook gone", "extra": json.dumps(extra)}
        gone = {"dttm": NOW - DAY / 3, "event": "delete_connection", "owner": "bob"}
        gone["extra"] = json.dumps({"connection_id": "gh"})
        again = old | {"dttm": made, "owner": HOOK}
        later = again | {"dttm": NOW - timedelta(seconds=50)}
        if known_by == "word":
            text = entry("refs/heads/x", why="no chain builds it").model_dump_json(exclude_defaults=True)
            again["extra"] = later["extra"] = text
            old = gone
        records.session.execute(insert(Log), [old, gone, again, later])
    records.session.add(Connection(conn_id="gh", conn_type="webhook_sender", extra=json.dumps(said)))
    since = NOW - timedelta(seconds=640)
    records.looked(PLACE, entry(by="sensor", since=since, outcomes=run_of("v1", made=True)))
    (change,) = [one for one in read().changes if one.ref == "refs/tags/v1"]
    assert bool(change.gaps) is gap


def test_gaps_of_a_sensor(records: Records, read: Callable[..., Ledger]) -> None:
    """Paused, failed, polls another source: known from the Dag, its last run, and the cursor in its Variable."""
    from airflow.models.dag import DagModel
    from airflow.models.variable import Variable

    records.told(PLACE, entry(outcomes=run_of("v1", made=True)))
    gap = "the sensor has not seen it"
    assert read().changes[0].gaps == (f"{gap} for 10 min",)
    records.looked(PLACE, value=[], state="failed")
    assert read().changes[0].gaps == (f"{gap}: its last run failed",)
    dag = records.session.get(DagModel, PLACE)
    assert dag is not None
    dag.is_paused = True
    assert read().changes[0].gaps == (f"{gap}: its Dag is paused",)
    cursor = {"looked": (NOW - timedelta(seconds=60)).isoformat(), "refs": {"refs/tags/v1": B}}
    Variable.set(PLACE, json.dumps(cursor), session=records.session)
    assert read().changes[0].gaps == (f"{gap}: it polled since, and saw it at {B[:12]}",)
    Variable.update(PLACE, json.dumps(cursor | {"refs": {"refs/tags/v1": A}}), session=records.session)
    assert read().changes[0].gaps == ()


def test_a_reader_sees_what_is_of_their_dags(records: Records, read: Callable[..., Ledger]) -> None:
    """Changes require the watching Dag, runs their chain's Dag; entries without a Dag require access to all."""
    records.told(PLACE, entry(outcomes=run_of("v1", made=True)))
    records.told(QUIET, entry("refs/tags/v2"))
    records.told(None, entry("refs/tags/v3"))
    assert [change.name for change in read(readable={PLACE, CHAIN}).changes] == ["tag v1"]
    (change,) = read(readable={PLACE}).changes
    assert (change.outcomes, change.why) == ((), "chains that you may not see took it")
    assert read(readable=set()).changes == []
    assert list(read(readable={QUIET}).watches) == [QUIET]
