"""Signed webhooks on a real Airflow database: each push gets one run, or a reason why it gets none."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.core.events.event import Event, Kind
from delivery_chain.core.events.watch_dags import source_dag_id, told_key
from delivery_chain.core.spec.model import Source
from support.webhook_airflow import (
    IF_NEW,
    MAIN,
    OTHER_SECRET,
    SECRET,
    V1,
    V2,
    A,
    B,
    C,
    connect,
    connect_git,
    make_receiver,
    moved,
    signed,
    spec,
)

if TYPE_CHECKING:
    from support.webhook_airflow import Receiver
    from support.webhook_store import Stored


pytestmark = pytest.mark.integration
WATCH = source_dag_id(Source(connection="git_shop", url="api.git"))


def test_one_push_one_run(stored: Stored, receiver: Receiver) -> None:
    """A push starts a run of the chain with the event as its conf; the response and the ledger both name it."""
    stored.add(spec())
    found = receiver.deliver(
        moved((MAIN, B, A), actor="mona", pushed_at="2024-05-31T16:48:37Z"), delivery="one"
    )
    ((chain, run_id),) = stored.runs()
    run = stored.run(chain, run_id)
    event: Event = run.pop("event")
    assert run | {"tasks": len(run["tasks"])} == {
        "state": "queued",
        "note": None,
        "by": "webhook hook",
        "type": "manual",
        "tasks": 12,
    }
    assert event == Event(
        kind=Kind.SOURCE_PUSH,
        repository="api",
        rule="main",
        ref=MAIN,
        commit=A,
        previous=B,
        pushed_at="2024-05-31T16:48:37Z",
        seen_at=event.seen_at,
        actor="mona",
        sender="webhook hook",
        delivery_id="one",
    )
    assert (found.status, found.run_ids, found.made) == (200, [run_id], [run_id])
    assert stored.ledger() == found.entries
    assert set(found.body) == {"delivery", "event", "ignored", "changes"}


def test_a_time_in_the_future_counts_as_now(stored: Stored, receiver: Receiver) -> None:
    """If a sender's clock is ahead, its push does not stay the newest forever."""
    stored.add(spec())
    receiver.deliver(moved((MAIN, "", A), pushed_at="2999-01-01T00:00:00Z"))
    ((chain, run_id),) = stored.runs()
    event: Event = stored.run(chain, run_id)["event"]
    assert event.pushed_at == event.seen_at


def test_a_redelivery_makes_no_second_run(stored: Stored, receiver: Receiver) -> None:
    """The response to a redelivery names the existing run."""
    stored.add(spec())
    first, again = (receiver.push(MAIN, "", A, delivery="one") for _ in range(2))
    assert (first.made, again.made, again.run_ids) == (first.run_ids, [], first.run_ids)
    assert [entry.why for entry in again.entries] == ["a redelivery"]
    assert len(stored.runs()) == 1


def test_another_server_process_knows_it_too(stored: Stored, receiver: Receiver) -> None:
    """All knowledge is in the database, and none in a process."""
    stored.add(spec())
    first = receiver.push(MAIN, "", A, delivery="one")
    with make_receiver() as other:
        again = other.push(MAIN, "", A, delivery="one")
    assert (again.made, again.run_ids) == ([], first.run_ids)


def test_there_and_back_makes_three_runs(stored: Stored, receiver: Receiver) -> None:
    """A, B and A again are three pushes, and get three runs with different ids."""
    stored.add(spec())
    made = [receiver.push(MAIN, *move).made for move in (("", A), (A, B), (B, A))]
    assert ([len(one) for one in made], len({*map(tuple, made)})) == ([1, 1, 1], 3)
    assert [run_id for _, run_id in stored.runs()] == [run_id for one in made for run_id in one]


def test_a_late_redelivery_makes_none(stored: Stored, receiver: Receiver) -> None:
    """An old delivery that is repeated after a newer push is recognized, and moves nothing back."""
    stored.add(spec())
    old = receiver.push(MAIN, "", A, delivery="old")
    receiver.push(MAIN, A, B)
    late = receiver.push(MAIN, "", A, delivery="old")
    assert (late.made, late.run_ids, len(stored.runs())) == ([], old.run_ids, 2)
    assert receiver.push(MAIN, B, C).entries[0].why == ""


def test_overtaken_deliveries_are_runs(stored: Stored, receiver: Receiver) -> None:
    """The newer push arrives first: both are built once, and the older one has the earlier time."""
    stored.add(spec())
    receiver.push(MAIN, "", C)
    newer, older = receiver.push(MAIN, A, B), receiver.push(MAIN, C, A)
    assert (len(newer.made), len(older.made)) == (1, 1)
    seen = [stored.run("shop", one.made[0])["event"].seen_at for one in (older, newer)]
    assert seen == sorted(seen)


def test_two_senders_of_one_repository(
    stored: Stored, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The webhooks of a repository and of its organization report one push, each with an id of its own."""
    stored.add(spec())
    connect(monkeypatch, "organisation", password=OTHER_SECRET)
    first = receiver.push(MAIN, "", A)
    other = receiver.push(MAIN, "", A, conn_id="organisation", secret=OTHER_SECRET)
    assert (other.made, other.run_ids, other.entries[0].why) == (
        [],
        first.run_ids,
        "another webhook reported it before",
    )


@pytest.mark.parametrize("ref", [MAIN, V1])
def test_deletions_start_nothing(stored: Stored, receiver: Receiver, ref: str) -> None:
    """The deletion of a branch or tag is acknowledged and remembered; after it, the same commit is a new push."""
    stored.add(spec())
    receiver.push(ref, "", A)
    gone = receiver.push(ref, A, "")
    assert (gone.status, gone.made, [one.why for one in gone.entries]) == (
        200,
        [],
        ["deleted, so there is nothing to run"],
    )
    assert (len(receiver.push(ref, "", A).made), len(stored.runs())) == (1, 2)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (moved(("refs/heads/feature", "", A)), "no build rule matches"),
        (
            moved((MAIN, "", A), repository="shop/other"),
            "no chain builds shop/other from a source of git_shop, home" + IF_NEW,
        ),
        (
            moved((MAIN, "", A), repository="https://evil.example.com/shop/api/more"),
            "no chain builds https://evil.example.com/shop/api/more from a source of git_shop, home" + IF_NEW,
        ),
    ],
    ids=["no rule", "other repository", "longer path"],
)
def test_no_chain_wants_it(stored: Stored, receiver: Receiver, said: dict[str, Any], why: str) -> None:
    """The response and the ledger say why no run was started."""
    stored.add(spec())
    found = receiver.deliver(said)
    assert (found.status, [entry.why for entry in found.entries], stored.runs()) == (200, [why], [])
    assert stored.ledger() == found.entries


@pytest.mark.parametrize(
    "place",
    [
        "api.git",
        "shop/api",
        "Shop/API.git",
        "https://git.example.com/shop/api",
        "git@git.example.com:shop/api.git",
        "ssh://git@git.example.com:2222/shop/api.git/",
    ],
)
def test_names_of_a_repository(stored: Stored, receiver: Receiver, place: str) -> None:
    """A sender may name a repository by any of its addresses."""
    stored.add(spec())
    assert len(receiver.push(MAIN, "", A, repository=place).made) == 1


def test_a_sender_speaks_for_its_connections_only(
    stored: Stored, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sender for one git server starts nothing for another one."""
    stored.add(spec(sources={"api": {"connection": "git_other", "url": "shop/api.git"}}))
    connect_git(monkeypatch, "git_other")
    assert (receiver.push(MAIN, "", A).made, stored.runs()) == ([], [])


def test_a_sender_in_the_database(
    stored: Stored, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found among all connections, as Airflow's API server finds it, and only if it is a sender."""
    from airflow.models.connection import Connection  # noqa: PLC0415
    from airflow.utils.session import create_session  # noqa: PLC0415

    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
    extra = json.dumps({"sender": "standard", "speaks_for": "git_shop"})
    with create_session() as session:
        for conn_id, conn_type in (("forge", "webhook_sender"), ("other", "http")):
            session.add(Connection(conn_id=conn_id, conn_type=conn_type, password=SECRET, extra=extra))
    stored.add(spec())
    found = [receiver.push(MAIN, "", A, conn_id=conn_id).status for conn_id in ("forge", "other", "nobody")]
    assert (found, len(stored.runs())) == ([200, 401, 401], 1)


def test_a_ping_is_answered(stored: Stored, receiver: Receiver) -> None:
    """A test of the webhook is recognized as such, and leaves nothing."""
    stored.add(spec())
    found = receiver.deliver({"type": "ping"}, delivery="p")
    assert (found.status, found.body, stored.nothing()) == (
        200,
        {"delivery": "p", "event": "ping", "ignored": "a ping: the webhook works", "changes": []},
        True,
    )


def test_many_refs_in_one_delivery(stored: Stored, receiver: Receiver) -> None:
    """Each ref is a change of its own."""
    stored.add(spec())
    found = receiver.deliver(moved((MAIN, "", A), ("refs/heads/x", "", A), (V1, "", A), (V2, A, "")))
    assert [(entry.ref, len(entry.outcomes)) for entry in found.entries] == [
        (MAIN, 1),
        ("refs/heads/x", 0),
        (V1, 1),
        (V2, 0),
    ]
    assert len(stored.runs()) == 2


def test_a_secret_is_changed_without_a_gap(
    stored: Stored, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """During the change, both the old and the new secret are valid."""
    stored.add(spec())
    connect(monkeypatch, password=OTHER_SECRET, extra={"second_secret": SECRET})
    found = [
        receiver.push(f"refs/tags/v{number}", "", A, secret=secret)
        for number, secret in enumerate((SECRET, OTHER_SECRET, SECRET[:-1]))
    ]
    assert [one.status for one in found] == [200, 200, 401]
    assert len(stored.runs()) == 2


def test_a_refusal_leaves_nothing(stored: Stored, receiver: Receiver) -> None:
    """A wrong signature, a changed body and a malformed body leave no run, no row, no Variable."""
    stored.add(spec())
    conn_id, body, headers = signed(moved((MAIN, "", A)))
    found = [
        receiver.post(conn_id, body + b" ", headers),
        receiver.deliver(moved((MAIN, "", A)), secret=OTHER_SECRET),
        receiver.deliver({"type": "source.push"}),
        receiver.deliver(moved((MAIN, "", "main"))),
    ]
    assert ([one.status for one in found], stored.nothing()) == ([401, 401, 400, 400], True)


@pytest.mark.parametrize("text", ["nonsense", "[]", '{"refs": 7}', '{"looked": "now"}'])
def test_variables_that_somebody_edited(stored: Stored, receiver: Receiver, text: str) -> None:
    """Unreadable Variables count as empty: pushes are accepted, and a redelivery still starts no second run."""
    from airflow.models.variable import Variable  # noqa: PLC0415
    from airflow.utils.session import create_session  # noqa: PLC0415

    stored.add(spec())
    first = receiver.push(MAIN, "", A, delivery="one")
    with create_session() as session:
        for key in (WATCH, told_key(WATCH)):
            Variable.set(key, text, session=session)
    again = receiver.push(MAIN, "", A, delivery="one")
    assert (again.status, again.made, again.run_ids) == (200, [], first.run_ids)
    assert len(receiver.push(MAIN, A, B).made) == 1
