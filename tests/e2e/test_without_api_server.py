"""Redeliveries after a clear, and an outage of Airflow. Runs last, because it stops the API server."""

from __future__ import annotations

import io
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from delivery_chain.sandbox import source
from delivery_chain.sandbox.airflow_parts import API_SERVER
from delivery_chain.sandbox.console import Console
from delivery_chain.sandbox.receiver import read_deliveries
from support.chain_runs import POLL_SECONDS, RUN_SECONDS
from support.outages import Parts, seconds_away

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.chain_runs import Ended, Sandbox

pytestmark = pytest.mark.e2e
AWAY = timedelta(seconds=90)
"""Longer than three retries of a task, ten seconds apart."""


def told(sandbox: Sandbox, digest: str) -> list[str]:
    """The ids of all deliveries of an image."""
    found = read_deliveries(sandbox.layout.deliveries)
    return [dict(one["headers"])["webhook-id"] for one in found if digest in one["body"]]


def test_a_cleared_distribute_sends_again(sandbox: Sandbox, clean: Ended) -> None:
    """Clearing the task in a successful run repeats the deliveries under the same ids, and the run succeeds again."""
    digest = clean.xcom("publish")["digest"]
    before = told(sandbox, digest)
    sandbox.clear(clean, "distribute")
    again = sandbox.again(clean)
    after = told(sandbox, digest)[len(before) :]
    assert (again.state, set(again.states["distribute"])) == ("success", {"success"})
    assert sorted(after) == sorted(set(before))


def until(seen: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + RUN_SECONDS
    while not seen():
        assert time.monotonic() < deadline, what
        time.sleep(POLL_SECONDS)


def test_a_push_outlives_the_api_server(sandbox: Sandbox, clean: Ended) -> None:
    """The API server stops once the push has its run, but nothing else; after the restart, the image is built."""
    del clean
    pushed = source.push(sandbox.layout, "api", tag="v1.7.0")

    def runs() -> list[str]:
        found = sandbox.api.runs("shop-api")
        return [run["dag_run_id"] for run in found if (run["conf"] or {}).get("commit") == pushed.commit]

    until(runs, "the push made no run")
    gone = datetime.now(UTC)
    # The outage has to last this long, since its length is what is tested.
    seconds_away(Parts(sandbox.layout, Console(io.StringIO())), API_SERVER, AWAY.total_seconds())
    path = f"/dags/shop-api/dagRuns/{runs()[0]}/taskInstances/plan"
    # By then, the next try may be minutes away.
    until(lambda: sandbox.api.call("GET", path)["state"] == "success", "the push got no plan")
    # Otherwise the plan was ready before the outage, which then proves nothing.
    assert datetime.fromisoformat(sandbox.api.call("GET", path)["end_date"]) > gone + AWAY
    run = sandbox.of_push("shop-api", pushed)
    digests = sandbox.digests("shop/api", "v1.7.0")
    assert (run.state, set(digests.values())) == ("success", {run.xcom("publish")["digest"]})
