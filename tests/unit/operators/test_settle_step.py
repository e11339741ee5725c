from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from delivery_chain.core.spec.in_force import (
    INDEX,
    REMEMBER,
    Entry,
    Index,
    Kept,
    State,
    fingerprint,
    kept_key,
)
from delivery_chain.core.spec.slots import widths
from delivery_chain.errors import DeliveryChainError
from delivery_chain.operators.settle import SettleOperator
from support.chain_steps import build_plan, built, chain
from support.variables import Variables, supervise

if TYPE_CHECKING:
    from support.oci_memory import MemoryRegistry

SPEC = chain()


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> Variables:
    return supervise(monkeypatch)


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A home registry at which nobody answers."""
    nobody = {"conn_type": "oci_registry", "host": "127.0.0.1:1", "extra": {"plain_http": True}}
    monkeypatch.setenv("AIRFLOW_CONN_HOME", json.dumps(nobody))


def removed(variables: Variables, *, ago: timedelta = timedelta(0), **fields: Any) -> None:
    """Let the chain have been removed some time ago."""
    since = datetime.now(UTC) - ago
    entry = Entry(
        number=1,
        fingerprint=fingerprint(SPEC),
        file="shop.yaml",
        slots=widths(SPEC),
        state=State.REMOVED,
        since=since,
    ).model_copy(update=fields)
    variables.held[INDEX] = Index(chains={"shop": entry}).model_dump_json()
    variables.held[kept_key("shop")] = Kept.of(SPEC, entry).model_dump_json()


def run(running: int = 0) -> Any:
    ti = SimpleNamespace(
        get_dr_count=lambda dag_id, states: running,
        get_dagrun_state=lambda dag_id, run_id: "failed",
        xcom_pull=lambda **_: None,
    )
    return SettleOperator(task_id="settle-shop", chain="shop").execute({"ti": ti})


def settled(variables: Variables) -> bool:
    return bool(json.loads(variables.held[kept_key("shop")]).get("settled", False))


def test_the_last_run_is_waited_for(home: MemoryRegistry, variables: Variables) -> None:
    removed(variables)
    with pytest.raises(AirflowSkipException, match=r"^chain shop has 2 runs in flight$"):
        run(running=2)
    assert not settled(variables)


def test_then_what_it_left_goes(home: MemoryRegistry, variables: Variables) -> None:
    """Staging tags of any age: there is no run that they could be for."""
    removed(variables)
    plan = build_plan(pushed_at=datetime.now(UTC) - timedelta(minutes=1))
    built(home.registry, SPEC, plan)
    assert (len(run()), home.tags, settled(variables)) == (2, {}, True)


def test_a_registry_that_does_not_answer_is_waited_for(silent: None, variables: Variables) -> None:
    removed(variables, ago=REMEMBER - timedelta(minutes=1))
    with pytest.raises(DeliveryChainError):
        run()
    assert not settled(variables)


def test_a_registry_that_is_silent_for_a_day_is_given_up(silent: None, variables: Variables) -> None:
    """It may have gone with the chain."""
    removed(variables, ago=REMEMBER)
    assert (run(), settled(variables)) == ([], True)


def test_a_connection_that_is_gone_is_not_waited_for(variables: Variables) -> None:
    removed(variables)
    assert (run(), settled(variables)) == ([], True)


@pytest.mark.parametrize("state", [State.CURRENT, State.INVALID])
def test_a_chain_that_is_back_is_left_alone(variables: Variables, state: State) -> None:
    removed(variables, state=state)
    with pytest.raises(AirflowSkipException, match=r"^chain shop is in force again, or forgotten$"):
        run()
    assert not settled(variables)


def test_a_settled_chain_is_left_alone(variables: Variables) -> None:
    removed(variables)
    run()
    with pytest.raises(AirflowSkipException, match=r"^chain shop is settled$"):
        run()
    assert settled(variables)


def test_a_run_that_is_cleared_later_brings_the_dag_back(variables: Variables) -> None:
    """Airflow takes a clear of a Dag that is gone, and would never go on with the run."""
    removed(variables)
    run()
    with pytest.raises(AirflowSkipException, match=r"^chain shop has 1 runs in flight$"):
        run(running=1)
    assert not settled(variables)
