"""How `distribute` handles each answer of a target, whatever its kind."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from delivery_chain.core.results import Attempt, AttemptOutcome, DeliveryResult
from delivery_chain.core.seal import Place, sealed
from delivery_chain.errors import DeliveryFailed, DeliveryUnavailable
from delivery_chain.hooks.signing_secret import signing_secret
from delivery_chain.operators.distribute import DistributeOperator, _check
from delivery_chain.operators.publish import PublishOperator
from delivery_chain.targets.interface import Settled
from delivery_chain.targets.table import TARGETS
from support.chain_steps import DAY, RETRIES, Run, build_plan, chain, judged
from support.scripted_target import ROW, Script, ScriptedTarget

if TYPE_CHECKING:
    from support.oci_memory import MemoryRegistry

SPEC = chain(distribute=[{"name": "prod", "url_connection": "prod_hook"}])
DONE, REFUSED, LATER = AttemptOutcome.DONE, AttemptOutcome.REFUSED, AttemptOutcome.LATER
WELL = Settled(good=True, sentence="2 of 2 pods run it")
BADLY = Settled(good=False, sentence="0 of 2 pods run it after 10 minutes: ImagePullBackOff")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """What the target says; the table leads to it."""
    monkeypatch.setenv("AIRFLOW_CONN_PROD_HOOK", json.dumps({"conn_type": "delivery_webhook"}))
    monkeypatch.setitem(TARGETS, "webhook", ROW)
    monkeypatch.setattr(ScriptedTarget, "script", Script(), raising=False)
    return ScriptedTarget.script


@pytest.fixture
def run(home: MemoryRegistry) -> Run:
    """A run whose image is published."""
    found, _ = judged(home.registry, SPEC, build_plan())
    found.do(PublishOperator(task_id="publish"))
    return found


def fire(run: Run) -> DeliveryResult:
    return DeliveryResult.from_xcom(run.do(DistributeOperator(task_id="distribute", slot=0), 0))


def attempt(outcome: AttemptOutcome, **fields: object) -> Attempt:
    return Attempt.model_validate({"at": DAY, "tag": "v1.2", "seconds": 0.2, "outcome": outcome} | fields)


@pytest.mark.parametrize(
    ("found", "error", "after", "message"),
    [
        (attempt(LATER), DeliveryUnavailable, None, "no answer in 0.2 s: ''"),
        (attempt(LATER, status=429, after=7.0), DeliveryUnavailable, 7.0, "429 in 0.2 s: ''"),
        (attempt(LATER, status=503, answer="busy"), DeliveryUnavailable, None, "503 in 0.2 s: 'busy'"),
        (
            attempt(REFUSED, status=404, answer="nothing here", advice="look at the address"),
            DeliveryFailed,
            None,
            "404 in 0.2 s: 'nothing here'; look at the address",
        ),
        (attempt(REFUSED, status=403), DeliveryFailed, None, "403 in 0.2 s: ''"),
    ],
)
def test_the_outcome_decides_the_error(
    found: Attempt, error: type[DeliveryFailed], after: float | None, message: str
) -> None:
    """A refusal is final and carries the target's advice; another attempt is made after the time it asked for."""
    with pytest.raises(DeliveryFailed) as caught:
        _check("prod", "https://x/", found)
    said = f"trigger 'prod': https://x/ did not accept the delivery of v1.2: {message}"
    assert (type(caught.value), caught.value.retry_after, str(caught.value)) == (error, after, said)
    assert caught.value.retryable is (found.outcome is LATER)


def test_the_table_leads_to_the_target(run: Run, script: Script) -> None:
    """The step knows no kind by itself: another class under the name gets the orders, and its address is shown."""
    script.ends = [WELL, WELL]
    found = fire(run)
    assert (found.url, found.delivered) == (ScriptedTarget.shown_url, ("v1.2", "latest"))
    assert script == Script(taken=[("v1.2", []), ("latest", [])], looked=["v1.2", "latest"])


def test_a_retry_shows_the_earlier_attempts_of_the_order(run: Run, script: Script) -> None:
    """Those of the same tag since the last clear."""
    script.outcomes = [DONE, LATER, LATER, LATER]
    for cleared in (False, False, True):
        if cleared:
            run.clear("distribute", 0)
        with pytest.raises(DeliveryUnavailable):
            fire(run)
    assert script.taken == [("v1.2", []), ("latest", []), ("latest", [LATER]), ("v1.2", [])]


def test_what_has_not_settled_is_looked_at_again(run: Run, script: Script) -> None:
    """The task is tried again, and the order is not delivered again."""
    script.ends = [WELL, None, WELL, WELL]
    with pytest.raises(DeliveryUnavailable, match="accepted latest, but has not finished it"):
        fire(run)
    assert fire(run).delivered == ("v1.2", "latest")
    assert [tag for tag, _ in script.taken] == ["v1.2", "latest"]


def test_what_settles_badly_fails_the_trigger(run: Run, script: Script) -> None:
    """With what the target says of it; trying again does not help."""
    script.ends = [BADLY]
    with pytest.raises(DeliveryFailed, match=r"accepted v1\.2, but failed: 0 of 2 pods run it") as caught:
        fire(run)
    assert not caught.value.retryable


def test_what_an_older_version_delivered_stays_delivered(run: Run, script: Script) -> None:
    """Versions before `outcome` left a status: a run that is on its way over an update sends just what is missing."""
    script.ends = [WELL, WELL]
    old = {"at": DAY.isoformat(), "seconds": 1.0, "answer": ""}
    attempts = [old | {"tag": "v1.2", "status": 204}, old | {"tag": "latest", "status": 503}]
    kept = {"value": {"attempts": attempts, "before": 0}, "generation": RETRIES}
    place = Place("shop", run.run_id, "distribute", 0, "state attempts")
    run.context("distribute", 0)["task_state_store"].set("attempts", sealed(kept, place, signing_secret()))
    assert [one.outcome for one in fire(run).attempts] == [DONE, LATER, DONE]
    assert script.taken == [("latest", [LATER])]
