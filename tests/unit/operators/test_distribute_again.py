"""What `distribute` sends again: ids, retries, clears."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from delivery_chain.core.results import Attempt
from delivery_chain.errors import (
    DeliveryUnavailable,
)
from delivery_chain.operators import distribute
from delivery_chain.targets.order import delivery_id
from support.chain_steps import DAY
from support.distributions import OTHER, everywhere, fire, published
from support.webhook_target import Target, answer

if TYPE_CHECKING:
    from support.oci_memory import MemoryRegistry


def test_a_get_tells_nothing_but_that(home: MemoryRegistry, west: MemoryRegistry, target: Target) -> None:
    """A redeploy address gets one signed request per tag, without a body."""
    run, _ = published(home)
    fire(run, "redeploy")
    assert [(got.method, got.path, got.body) for got in target.got] == [
        ("GET", "/hook?token=hunter2-token", b"")
    ] * 2


def test_a_retry_has_the_same_id(home: MemoryRegistry, west: MemoryRegistry, target: Target) -> None:
    """A target that keeps ids takes two tries for one delivery; both are in the record."""
    run, _ = everywhere(home, tags=("v1.2",))
    target.replies = [answer(500, b"oops")]
    with pytest.raises(DeliveryUnavailable):
        fire(run)
    assert [(one["tag"], one["status"]) for one in run.left("distribute", "attempts", 0)] == [("v1.2", 500)]
    found = fire(run)
    assert len({got.headers["webhook-id"] for got in target.got}) == 1
    assert [got.body for got in target.got] == [target.got[0].body] * 2
    assert [one.status for one in found.attempts] == [500, 200]
    assert [Attempt.from_xcom(one) for one in run.left("distribute", "attempts", 0)] == list(found.attempts)


def test_what_arrived_is_not_sent_again(home: MemoryRegistry, west: MemoryRegistry, target: Target) -> None:
    """The second tag failed: the retry is about that one alone."""
    run, _ = everywhere(home)
    target.replies = [answer(200), answer(503)]
    with pytest.raises(DeliveryUnavailable):
        fire(run)
    found = fire(run)
    assert [json.loads(got.body)["push_data"]["tag"] for got in target.got] == ["v1.2", "latest", "latest"]
    assert (found.delivered, [one.status for one in found.attempts]) == (("v1.2", "latest"), [200, 503, 200])


def test_a_clear_sends_again(home: MemoryRegistry, west: MemoryRegistry, target: Target) -> None:
    """All of it, under the same ids, and the record keeps the earlier attempts, too."""
    run, _ = everywhere(home)
    fire(run)
    run.clear("distribute", 0)
    found = fire(run)
    ids = [got.headers["webhook-id"] for got in target.got]
    assert (ids[:2], len(set(ids))) == (ids[2:], 2)
    assert (found.delivered, [one.status for one in found.attempts]) == (("v1.2", "latest"), [200] * 4)


def test_a_retry_after_a_clear_sends_what_did_not_arrive(
    home: MemoryRegistry, west: MemoryRegistry, target: Target
) -> None:
    """What arrived before the clear does not count, what arrived after it does."""
    run, _ = everywhere(home)
    target.replies = [answer(200), answer(503), answer(200), answer(503)]
    for cleared in (False, True):
        if cleared:
            run.clear("distribute", 0)
        with pytest.raises(DeliveryUnavailable):
            fire(run)
    found = fire(run)
    told = [json.loads(got.body)["push_data"]["tag"] for got in target.got]
    assert told == ["v1.2", "latest", "v1.2", "latest", "latest"]
    assert [one.status for one in found.attempts] == [200, 503, 200, 503, 200]


def test_the_attempts_of_many_clears_are_bounded(
    home: MemoryRegistry, west: MemoryRegistry, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest are kept, and what arrived since the clear still counts."""
    monkeypatch.setattr(distribute, "MOST_ATTEMPTS", 3)
    run, _ = everywhere(home)
    fire(run)
    run.clear("distribute", 0)
    target.replies = [answer(200), answer(503)]
    with pytest.raises(DeliveryUnavailable):
        fire(run)
    assert [(one.tag, one.status) for one in fire(run).attempts] == [
        ("v1.2", 200),
        ("latest", 503),
        ("latest", 200),
    ]


def test_a_repeat_of_all_has_the_same_ids(home: MemoryRegistry, west: MemoryRegistry, target: Target) -> None:
    """Also where the task's state is lost: the ids come from what the delivery is about."""
    run, _ = everywhere(home)
    fire(run)
    run.stores.clear()
    fire(run)
    ids = [got.headers["webhook-id"] for got in target.got]
    assert (ids[:2], len(set(ids))) == (ids[2:], 2)


def test_an_attempt_that_somebody_else_wrote_does_not_count(
    home: MemoryRegistry, west: MemoryRegistry, target: Target
) -> None:
    """Airflow's task state can be edited over REST: a delivery that never was is sent."""
    run, _ = everywhere(home)
    done = Attempt(at=DAY, tag="v1.2", seconds=1.0, status=200).to_xcom()
    run.context("distribute", 0)["task_state_store"].set("attempts", [done])
    assert fire(run).delivered == ("v1.2", "latest")
    assert len(target.got) == 2


def test_another_run_trigger_or_image_has_another_id() -> None:
    """No two deliveries are taken for one."""
    base = {"chain": "shop", "run_id": "r1", "trigger": "prod", "tag": "v1", "digest": OTHER}
    ids = {delivery_id(**(base | {key: f"{value}x"})) for key, value in base.items()}
    assert len(ids | {delivery_id(**base)}) == len(base) + 1
