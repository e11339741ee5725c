"""Many concurrent deliveries, and a database that fails midway: each push still gets one run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError

from delivery_chain.airflow_db.runs import Runs
from delivery_chain.web import receiver as receiver_module
from support import webhook_sender
from support.airflow_database import POSTGRESQL, SQLITE
from support.webhook_airflow import MAIN, OTHER_SECRET, SECRET, A, B, commit, connect, moved, signed, spec

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.webhook_airflow import Receiver, Sent
    from support.webhook_store import Stored

pytestmark = pytest.mark.integration
AT_ONCE = 100
WEB = {"scope": {"instance": "home", "namespace": "web", "repositories": ["api"]}}


def tags(count: int) -> list[dict[str, Any]]:
    """Pushes of this many new tags."""
    return [moved((f"refs/tags/v{number}", "", commit(number + 1))) for number in range(count)]


def test_one_delivery_a_hundred_times_at_once(stored: Stored, receiver: Receiver) -> None:
    """One of them starts the run, and all name it."""
    stored.add(spec())
    found = receiver.all([signed(moved((MAIN, "", A)), delivery="one")] * AT_ONCE)
    ((_, run_id),) = stored.runs()
    assert Counter(one.status for one in found) == {200: AT_ONCE}
    assert Counter(tuple(one.run_ids) for one in found) == {(run_id,): AT_ONCE}
    assert sum(len(one.made) for one in found) == 1
    assert len(stored.ledger()) == AT_ONCE


def test_a_hundred_pushes_at_once(stored: Stored, receiver: Receiver) -> None:
    """Each starts its run."""
    stored.add(spec())
    found = receiver.all(signed(said) for said in tags(AT_ONCE))
    assert Counter(one.status for one in found) == {200: AT_ONCE}
    assert sorted(run_id for one in found for run_id in one.made) == sorted(
        run_id for _, run_id in stored.runs()
    )
    assert len(stored.runs()) == AT_ONCE


def test_a_push_of_more_refs_than_one_delivery_may_start(stored: Stored, receiver: Receiver) -> None:
    """The response says that the rest is left to the sensor; a redelivery starts the next ones."""
    stored.add(spec())
    moves = [(f"refs/tags/v{number}", "", commit(number + 1)) for number in range(130)]
    found = [receiver.deliver(moved(*moves), delivery="one") for _ in range(2)]
    why = "more than 100 runs in one delivery: the sensor starts the rest"
    assert [(len(one.made), [entry.why for entry in one.entries].count(why)) for one in found] == [
        (100, 30),
        (30, 0),
    ]
    assert len(stored.runs()) == 130


def test_two_chains_and_two_senders_at_once(
    stored: Stored, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two webhooks report the same thirty pushes of a source with two chains, concurrently."""
    connect(monkeypatch, "organisation", password=OTHER_SECRET)
    stored.add(spec(), spec("web", **WEB))
    both = [
        one
        for said in tags(30)
        for one in (signed(said), signed(said, conn_id="organisation", secret=OTHER_SECRET))
    ]
    found = receiver.all(both)
    assert Counter(one.status for one in found) == {200: 60}
    assert Counter(chain for chain, _ in stored.runs()) == {"shop": 30, "web": 30}


@pytest.mark.parametrize("metadata", [POSTGRESQL], indirect=True)
def test_two_server_processes_at_once(stored: Stored, tmp_path: Path) -> None:
    """Two servers of one Airflow get the same fifty pushes at the same moment: each gets one run and a response."""
    stored.add(spec())
    deliveries = [signed(said, delivery=f"d{number}") for number, said in enumerate(tags(50))]
    file = tmp_path / "deliveries.json"
    file.write_text(json.dumps([[name, body.decode(), headers] for name, body, headers in deliveries]))
    argv = [sys.executable, "-W", "ignore", str(Path(webhook_sender.__file__)), str(file)]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    servers = [subprocess.Popen(argv, env=dict(os.environ), **pipes) for _ in range(2)]
    try:
        for server in servers:
            assert any(line.strip() == "ready" for line in server.stdout)
        for server in servers:
            server.stdin.write("go\n")
            server.stdin.flush()
        lines = [server.communicate(timeout=120)[0].strip().splitlines()[-1] for server in servers]
    finally:
        for server in servers:
            server.kill()
            server.wait()
    results = [json.loads(line) for line in lines]
    assert Counter(status for one in results for status, _, _ in one) == {200: 100}
    assert [ids for _, ids, _ in results[0]] == [ids for _, ids, _ in results[1]]
    assert sum(len(made) for one in results for _, _, made in one) == 50
    assert len(stored.runs()) == 50


def _raises(_: Runs) -> None:
    raise OperationalError("INSERT", {}, Exception("disk I/O error"))


def _is_cut_off(runs: Runs) -> None:
    """Make the server end the transaction's connection."""
    from airflow import settings  # noqa: PLC0415

    pid = runs.session.scalar(text("SELECT pg_backend_pid()"))
    assert settings.engine is not None
    with settings.engine.connect() as other:
        assert other.scalar(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})


@pytest.mark.parametrize(
    ("metadata", "fails"),
    [(SQLITE, _raises), (POSTGRESQL, _raises), (POSTGRESQL, _is_cut_off)],
    indirect=["metadata"],
)
def test_a_failure_in_the_middle_leaves_nothing(
    stored: Stored, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, fails: Callable[[Runs], None]
) -> None:
    """The database fails at the second of three runs: the response is 503, nothing is stored, a retry starts all."""
    stored.add(spec())
    receiver.request("GET", "/delivery-chain/webhooks/hook")
    create, calls = Runs._create, Counter[str]()

    def breaking(self: Runs, *about: Any) -> None:
        calls["made"] += 1
        if calls["made"] == 2:
            fails(self)
        create(self, *about)

    monkeypatch.setattr(Runs, "_create", breaking)
    said = moved(*((f"refs/tags/v{number}", "", commit(number + 1)) for number in range(3)))
    failed = receiver.deliver(said, delivery="one")
    assert (failed.status, failed.body, failed.headers["retry-after"]) == (
        503,
        {"detail": "Airflow's database did not take it"},
        "5",
    )
    assert stored.nothing()
    again = receiver.deliver(said, delivery="one")
    assert (again.status, len(again.made), len(stored.runs())) == (200, 3, 3)


def test_a_run_that_airflow_refuses_harms_no_other(
    stored: Stored, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One chain's run can't be created; the other's is, and the response says why."""
    stored.add(spec(), spec("web", **WEB))
    create = Runs._create

    def breaking(self: Runs, dag: Any, *about: Any) -> None:
        create(self, dag, *about)
        if dag.dag_id == "shop":
            raise ValueError("a listener says no")

    monkeypatch.setattr(Runs, "_create", breaking)
    found = receiver.push(MAIN, "", A)
    assert [outcome.why for outcome in found.entries[0].outcomes] == [
        "Airflow refuses the run: a listener says no",
        "",
    ]
    assert [chain for chain, _ in stored.runs()] == ["web"]


def test_the_sensor_makes_it_in_the_same_moment(
    stored: Stored, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sensor creates the run between the query for it and its creation: the response names it, and there is one."""
    stored.add(spec())
    receiver.push(MAIN, "", A)
    ((_, first),) = stored.runs()
    monkeypatch.setattr("delivery_chain.airflow_db.runs._made", lambda *_: {})
    found = receiver.push(MAIN, "", A, delivery="another")
    assert [(one.run_id, one.made, one.why) for one in found.entries[0].outcomes] == [
        (first, False, "the sensor saw it first")
    ]
    assert len(stored.runs()) == 1


def test_too_many_wait(stored: Stored, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """If too many deliveries wait for the database, the others are asked to retry, which works."""
    monkeypatch.setattr(receiver_module, "MOST_WAITING", 10)
    stored.add(spec())
    deliveries = [signed(said) for said in tags(40)]
    found = receiver.all(deliveries)
    statuses = Counter(one.status for one in found)
    assert statuses.keys() == {200, 503}
    assert {one.headers["retry-after"] for one in found if one.status == 503} == {"5"}
    left = deliveries
    for _ in range(20):
        left = [one for one, sent in zip(left, receiver.all(left), strict=True) if sent.status != 200]
        if not left:
            break
    assert (left, len(stored.runs())) == ([], 40)


def statuses(found: list[Sent]) -> Counter[int]:
    """Number of responses with each status."""
    return Counter(one.status for one in found)


def test_one_senders_flood_is_stopped(
    stored: Stored, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The response to a sender above its rate limit says when to retry; other senders are served."""
    connect(monkeypatch, "loud", extra={"per_minute": 5})
    stored.add(spec())
    found = receiver.all(signed({"type": "ping"}, conn_id="loud", secret=SECRET) for _ in range(20))
    assert statuses(found) == {200: 5, 429: 15}
    assert receiver.push(MAIN, A, B).status == 200


def test_a_database_that_is_away(stored: Stored, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the sender's connection in the database, as usual: 503 during the outage, never 401, and then it works."""
    from airflow import settings  # noqa: PLC0415
    from airflow.models.connection import Connection  # noqa: PLC0415
    from airflow.utils.session import create_session  # noqa: PLC0415

    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
    monkeypatch.delenv("AIRFLOW_CONN_HOOK")
    extra = json.dumps({"sender": "standard", "speaks_for": "git_shop"})
    stored.add(spec())
    with create_session() as session:
        session.add(Connection("hook", conn_type="webhook_sender", password=SECRET, extra=extra))

    def away(*_: object) -> None:
        raise OperationalError("SELECT", {}, Exception("server closed the connection"))

    answers = []
    for cut in (True, False, True, False):
        if cut:
            event.listen(settings.engine, "before_cursor_execute", away)
        try:
            answers.append(receiver.push(MAIN, "", A, delivery="one"))
        finally:
            if cut:
                event.remove(settings.engine, "before_cursor_execute", away)
    assert [one.status for one in answers] == [503, 200, 503, 200]
    assert [one.headers.get("retry-after") for one in answers] == ["5", None, "5", None]
    assert (len(answers[1].made), len(stored.runs())) == (1, 1)
