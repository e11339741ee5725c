"""Pushes to chains whose specs have changed: chains with invalid specs get runs, removed ones do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from delivery_chain.core.spec.in_force import Entry, State
from delivery_chain.core.spec.standing import Standing
from support.webhook_airflow import MAIN, A, moved, signed, spec

if TYPE_CHECKING:
    from support.webhook_airflow import Receiver
    from support.webhook_store import Stored

pytestmark = pytest.mark.integration
NEW = spec(name="new", scope={"instance": "home", "namespace": "new", "repositories": ["api"]})
OLD = spec()


@pytest.mark.parametrize(
    ("state", "started"),
    [(State.INVALID, [NEW.name, OLD.name]), (State.REMOVED, [NEW.name])],
)
def test_a_push_is_for_the_chains_that_take_new_runs(
    stored: Stored, receiver: Receiver, state: State, started: list[str]
) -> None:
    """A renamed chain's old Dag exists until its runs have ended, besides the Dag with the new name."""
    entry = Entry(number=1, fingerprint="0123456789abcdef", file="api.yaml", slots={}, state=state)
    stored.add(OLD, standing=Standing.of(entry))
    stored.add(NEW)
    receiver.all([signed(moved((MAIN, "", A)), delivery="one")])
    assert sorted(dag_id for dag_id, _ in stored.runs()) == sorted(started)
