# ruff: noqa: PLC0415 - Airflow takes seconds to import; only the tests that run pay
"""Run ids taken beforehand by a user of role `user`, through Airflow's own REST API, make no push disappear."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from delivery_chain.airflow_db.runs import Runs
from delivery_chain.core.events.push import Push
from delivery_chain.core.events.routing import route_image, source_starts
from support.webhook_airflow import DIGEST, MAIN, A, B, connect, images, moved, pushed, spec

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.webhook_airflow import Receiver
    from support.webhook_store import Stored

pytestmark = [
    pytest.mark.integration,
    # From a library that Airflow's web application imports.
    pytest.mark.filterwarnings("ignore:Using `httpx` with `starlette.testclient`"),
]
CHAIN = spec()
START = source_starts([(CHAIN, "api")], ref=MAIN, commit=A, previous="")[0]
PUSH = Push.of_image(name="base/python", tag="v1", digest=DIGEST)
(IMAGE,) = route_image(PUSH, [images()], instance="home", at=datetime(2026, 11, 23, tzinfo=UTC)).starts
OURS = START.event.to_conf()
CONFS: list[dict[str, Any]] = [
    {},
    {"seen_at": "garbage"},
    {"seen_at": "2999-01-01T00:00:00Z", "sender": "webhook hook", "delivery_id": "one"},
    {"seen_at": [], "sender": {}, "delivery_id": 7, "ref": None},
    {"seen_at": "2026-01-01", "pushed_at": "0001-01-01T00:00:00+14:00"},
    OURS,
    OURS | {"seen_at": "2999-01-01T00:00:00Z", "sender": "webhook hook", "delivery_id": "one"},
    OURS | {"seen_at": "2999-01-01T00:00:00Z", "sender": "sensor"},
]


@pytest.fixture
def start_by_hand(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Start a run as mallory, of role `user`, over REST; return the response's status."""
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "x" * 64)
    from airflow.api_fastapi.app import create_app, get_auth_manager, purge_cached_app
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

    purge_cached_app()
    app = create_app("core")
    token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="mallory", role="user"))

    def start(dag_id: str, run_id: str, conf: dict[str, Any], **more: Any) -> int:
        body = {"dag_run_id": run_id, "logical_date": None, "conf": conf} | more

        async def post() -> httpx.Response:
            transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://airflow") as client:
                return await client.post(
                    f"/api/v2/dags/{dag_id}/dagRuns", json=body, headers={"Authorization": f"Bearer {token}"}
                )

        return asyncio.run(post()).status_code

    return start


@pytest.mark.parametrize("conf", CONFS)
def test_a_taken_id_swallows_no_push(
    stored: Stored, receiver: Receiver, start_by_hand: Callable[..., int], conf: dict[str, Any]
) -> None:
    """The push gets its run under the next id; redeliveries, and the next visit of the commit, find the right run."""
    stored.add(CHAIN)
    taken = START.run_id(1)
    assert start_by_hand("shop", taken, conf) == 200
    first = receiver.push(MAIN, "", A, delivery="one")
    again = receiver.push(MAIN, "", A, delivery="one")
    away, back = receiver.push(MAIN, A, B), receiver.push(MAIN, B, A)
    assert [one.status for one in (first, again, away, back)] == [200] * 4
    assert (first.made, again.made, again.run_ids) == ([START.run_id(2)], [], [START.run_id(2)])
    assert (len(away.made), back.made) == (1, [START.run_id(3)])
    by = [stored.run("shop", run_id)["by"] for run_id in (START.run_id(2), START.run_id(3))]
    assert by == ["webhook hook", "webhook hook"]


def test_a_delivery_that_was_forged_is_not_taken_for_told(
    stored: Stored, receiver: Receiver, start_by_hand: Callable[..., int]
) -> None:
    """The ids of several visits are taken, each with the delivery's own id in its conf, and one in the far future."""
    stored.add(CHAIN)
    for visit in range(1, 20):
        forged = OURS | {"sender": "webhook hook", "delivery_id": "one", "seen_at": f"{2990 - visit}-01-01"}
        assert start_by_hand("shop", START.run_id(visit), forged) == 200
    assert receiver.push(MAIN, "", A, delivery="one").made == [START.run_id(20)]


@pytest.mark.parametrize("conf", [{"seen_at": "garbage"}, IMAGE.event.to_conf()])
def test_images_too(
    stored: Stored,
    receiver: Receiver,
    start_by_hand: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    conf: dict[str, Any],
) -> None:
    """The same for a registry's notifications."""
    connect(monkeypatch)
    stored.add(images())
    assert start_by_hand("base", IMAGE.run_id(1), conf) == 200
    said = pushed(("base/python", "v1", DIGEST))
    first, again = (receiver.deliver(said, delivery="one") for _ in range(2))
    assert (first.made, again.made, again.run_ids) == ([IMAGE.run_id(2)], [], [IMAGE.run_id(2)])


def test_an_id_that_is_taken_at_the_same_moment(
    stored: Stored,
    receiver: Receiver,
    start_by_hand: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between the query for runs and the creation of one: the push gets its run under the next id."""
    stored.add(CHAIN)
    assert start_by_hand("shop", START.run_id(1), {}) == 200
    monkeypatch.setattr(Runs, "there", lambda *_: {})
    assert receiver.push(MAIN, "", A).made == [START.run_id(2)]


def test_other_refs_of_the_delivery_are_not_held_up(
    stored: Stored, receiver: Receiver, start_by_hand: Callable[..., int]
) -> None:
    """In a delivery of several pushes, one push's id is taken: all get their runs."""
    stored.add(CHAIN)
    assert start_by_hand("shop", START.run_id(1), {"seen_at": "garbage"}) == 200
    found = receiver.deliver(moved((MAIN, "", A), ("refs/tags/v1", "", B)))
    assert (found.status, len(found.made)) == (200, 2)
