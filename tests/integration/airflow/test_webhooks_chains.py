"""Signed webhooks on a real Airflow database: the chains that take a push, edited, removed, paused or broken."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from delivery_chain.web import index
from support.webhook_airflow import (
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
    """The index looks at the database for each delivery."""
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
    """The hook of a bare repository tells the last two; the connection may hold all but the last."""
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
    """The run waits, and says so in its note and in the answer."""
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
        ({"is_stale": True}, "Airflow does not have its Dag now; the sensor retries"),
        ({"has_import_errors": True}, "the Dag's file has import errors; the sensor retries"),
    ],
    ids=["stale", "import errors"],
)
def test_a_dag_that_can_not_run(stored: Stored, receiver: Receiver, state: dict[str, bool], why: str) -> None:
    """The answer says why, and the run of the other chain is made."""
    stored.add(spec(), spec("web", **WEB))
    receiver.push(V1, "", A)
    stored.mark("shop", **state)
    found = receiver.push(MAIN, "", A)
    outcomes = {outcome.chain: (outcome.made, outcome.why) for outcome in found.entries[0].outcomes}
    assert outcomes == {"shop": (False, why), "web": (True, "")}


def test_an_edited_spec_counts(stored: Stored, receiver: Receiver, fresh: None) -> None:
    """A new version of a chain's Dag is what the next push is matched against."""
    stored.add(spec())
    before = receiver.push("refs/heads/next", "", A)
    rules = [{"name": "next", "branch": "next", "tags": [{"tag": "next"}]}]
    stored.add(spec(build={"rules": rules, "timezone": "UTC"}))
    after = [receiver.push(ref, "", B) for ref in ("refs/heads/next", MAIN)]
    assert (before.made, [len(one.made) for one in after]) == ([], [1, 0])


def test_a_removed_chain_is_forgotten(stored: Stored, receiver: Receiver, fresh: None) -> None:
    """A Dag whose file is gone takes no push any more, until it is back."""
    stored.add(spec())
    found = [receiver.push(MAIN, "", A)]
    stored.mark("shop", is_stale=True)
    found.append(receiver.push(MAIN, A, B))
    stored.mark("shop", is_stale=False)
    found.append(receiver.push(MAIN, B, C))
    assert [len(one.made) for one in found] == [1, 0, 1]


def test_another_versions_dag_disturbs_nobody(stored: Stored, receiver: Receiver) -> None:
    """A chain's Dag with a spec that can't be read is passed over, and the others work."""
    from airflow.models.serialized_dag import SerializedDagModel  # noqa: PLC0415
    from airflow.utils.session import create_session  # noqa: PLC0415
    from sqlalchemy import select  # noqa: PLC0415

    stored.add(spec(), spec("web", **WEB))
    with create_session() as session:
        row = session.scalars(select(SerializedDagModel).where(SerializedDagModel.dag_id == "web")).one()
        # The spec is JSON inside of JSON.
        row._data = json.loads(json.dumps(row.data).replace('\\"version\\":1', '\\"version\\":99'))
        assert session.is_modified(row)
    receiver.push(MAIN, "", A)
    assert [chain for chain, _ in stored.runs()] == ["shop"]
