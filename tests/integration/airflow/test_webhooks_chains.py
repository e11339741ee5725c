"""Signed webhooks on a real Airflow database: the chains that take a push, edited, removed, paused or broken."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from delivery_chain.core.events.pipeline import IMPORT_ERRORS, NO_DAG
from delivery_chain.core.spec.in_force import State
from delivery_chain.web import index
from support.webhook_airflow import (
    IF_NEW,
    MAIN,
    V1,
    A,
    B,
    C,
    connect_git,
    images,
    spec,
)

if TYPE_CHECKING:
    from support.webhook_airflow import Receiver
    from support.webhook_store import Stored

pytestmark = pytest.mark.integration


WEB = {"scope": {"instance": "home", "namespace": "web", "repositories": ["api"]}}


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the index query the database for each delivery."""
    monkeypatch.setattr(index, "FRESH_SECONDS", 0.0)


def test_several_chains_of_one_source(stored: Stored, receiver: Receiver) -> None:
    """One push, one run of each chain that builds the repository."""
    stored.add(spec(), spec("web", **WEB), images())
    found = receiver.push(MAIN, "", A)
    assert [chain for chain, _ in stored.runs()] == ["shop", "web"]
    assert [outcome.chain for outcome in found.entries[0].outcomes] == ["shop", "web"]


@pytest.mark.parametrize("told", ["api", "shop/api", "git/shop/api", "/srv/git/shop/api.git"])
def test_a_hook_names_more_folders_than_the_chain(
    monkeypatch: pytest.MonkeyPatch, stored: Stored, receiver: Receiver, told: str
) -> None:
    """The hook of a bare repository reports the last two folders; the connection may contain all but the last."""
    connect_git(monkeypatch, host="file:///srv/git/shop")
    stored.add(spec())
    receiver.push(MAIN, "", A, repository=told)
    assert [chain for chain, _ in stored.runs()] == ["shop"]


def test_two_repositories_of_one_source(stored: Stored, receiver: Receiver) -> None:
    """A chain that builds two images from one git repository has a run for each rule."""
    place = {"connection": "git_shop", "url": "api.git"}
    rules = [
        {"name": "api", "branch": "main", "repository": "api", "tags": [{"tag": "edge"}]},
        {"name": "web", "branch": "main", "repository": "web", "tags": [{"tag": "edge"}]},
    ]
    both = {"instance": "home", "namespace": "shop", "repositories": ["api", "web"]}
    stored.add(
        spec(scope=both, sources={"api": place, "web": place}, build={"rules": rules, "timezone": "UTC"})
    )
    receiver.push(MAIN, "", A)
    events = [stored.run(*run)["event"] for run in stored.runs()]
    assert [(event.repository, event.rule) for event in events] == [("api", "api"), ("web", "web")]


def test_a_paused_dag_queues_with_a_note(stored: Stored, receiver: Receiver) -> None:
    """The run waits, and its note and the response say so."""
    stored.add(spec())
    stored.mark("shop", is_paused=True)
    found = receiver.push(MAIN, "", A)
    why = "the Dag is paused: the run waits until it is unpaused"
    assert [outcome.why for outcome in found.entries[0].outcomes] == [why]
    run = stored.run("shop", found.made[0])
    assert (run["state"], run["note"]) == ("queued", why[0].upper() + why[1:])


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ({"is_stale": True}, NO_DAG),
        ({"has_import_errors": True}, IMPORT_ERRORS),
    ],
    ids=["stale", "import errors"],
)
def test_a_dag_that_can_not_run(stored: Stored, receiver: Receiver, state: dict[str, bool], why: str) -> None:
    """The response says why, and the run of the other chain is created; redelivered, the push has both, once each."""
    stored.add(spec(), spec("web", **WEB))
    receiver.push(V1, "", A)
    stored.mark("shop", **state)
    found = receiver.push(MAIN, "", A, delivery="one")
    assert (found.status, found.headers["retry-after"], found.body) == (503, "30", {"detail": f"shop: {why}"})
    outcomes = {outcome.chain: (outcome.made, outcome.why) for outcome in stored.ledger()[-1].outcomes}
    assert outcomes == {"shop": (False, why), "web": (True, "")}
    before = stored.runs()
    assert receiver.push(MAIN, "", A, delivery="one").status == 503
    assert (stored.runs(), len(stored.ledger())) == (before, 2)
    stored.mark("shop", **dict.fromkeys(state, False))
    again = receiver.push(MAIN, "", A, delivery="one")
    assert (again.status, len(again.run_ids), again.made) == (200, 2, [stored.runs()[-1][1]])
    assert [chain for chain, _ in stored.runs()] == ["shop", "web", "web", "shop"]


@pytest.mark.parametrize("parsed", [True, False], ids=["other chains have", "none has"])
def test_a_chain_whose_dag_is_not_parsed_yet(
    stored: Stored, receiver: Receiver, fresh: None, *, parsed: bool
) -> None:
    """The Dag processor has stored its spec: its pushes are to come again, and nothing is recorded."""
    if parsed:
        stored.add(images())
    stored.put_in_force(spec())
    before = stored.variables()
    found = receiver.push(MAIN, "", A, delivery="one")
    assert (found.status, found.headers["retry-after"], found.body) == (
        503,
        "30",
        {"detail": f"shop: {NO_DAG}"},
    )
    assert (stored.runs(), stored.ledger(), stored.variables()) == ([], [], before)
    assert receiver.push(MAIN, "", A, repository="shop/other").status == 200
    stored.add(spec())
    again = receiver.push(MAIN, "", A, delivery="one")
    assert (again.status, len(again.made), again.entries[0].why) == (200, 1, "")


def test_a_chain_that_was_removed_is_not_waited_for(stored: Stored, receiver: Receiver, fresh: None) -> None:
    """Its pushes are nobody's, as those of a source without a chain."""
    stored.put_in_force(spec(), state=State.REMOVED)
    found = receiver.push(MAIN, "", A)
    assert (found.status, [entry.why for entry in found.entries]) == (
        200,
        ["no chain builds shop/api from a source of git_shop, home" + IF_NEW],
    )


def test_an_edited_spec_counts(stored: Stored, receiver: Receiver, fresh: None) -> None:
    """A new version of a chain's Dag is what the next push is matched against."""
    stored.add(spec())
    before = receiver.push("refs/heads/next", "", A)
    rules = [{"name": "next", "branch": "next", "tags": [{"tag": "next"}]}]
    stored.add(spec(build={"rules": rules, "timezone": "UTC"}))
    after = [receiver.push(ref, "", B) for ref in ("refs/heads/next", MAIN)]
    assert (before.made, [len(one.made) for one in after]) == ([], [1, 0])


def test_a_removed_chain_is_forgotten(stored: Stored, receiver: Receiver, fresh: None) -> None:
    """A Dag whose file was removed takes no more pushes until the file returns."""
    stored.add(spec())
    found = [receiver.push(MAIN, "", A)]
    stored.mark("shop", is_stale=True)
    found.append(receiver.push(MAIN, A, B))
    stored.mark("shop", is_stale=False)
    found.append(receiver.push(MAIN, B, C))
    assert [len(one.made) for one in found] == [1, 0, 1]


def test_another_versions_dag_disturbs_nobody(stored: Stored, receiver: Receiver) -> None:
    """A chain's Dag with an unreadable spec is skipped, and the others work."""
    from airflow.models.serialized_dag import SerializedDagModel  # noqa: PLC0415
    from airflow.utils.session import create_session  # noqa: PLC0415
    from sqlalchemy import select  # noqa: PLC0415

    stored.add(spec(), spec("web", **WEB))
    with create_session() as session:
        row = session.scalars(select(SerializedDagModel).where(SerializedDagModel.dag_id == "web")).one()
        # The spec is JSON inside JSON.
        row._data = json.loads(json.dumps(row.data).replace('\\"version\\":1', '\\"version\\":99'))
        assert session.is_modified(row)
    receiver.push(MAIN, "", A)
    assert [chain for chain, _ in stored.runs()] == ["shop"]
