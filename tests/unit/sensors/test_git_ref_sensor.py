from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowSensorTimeout

from delivery_chain.errors import SourceError
from delivery_chain.sensors import base
from delivery_chain.sensors.git_ref import STATE_KEY, GitRefSensor
from delivery_chain.triggers import git_ref
from support.scripted_looks import Store, deferred, script

if TYPE_CHECKING:
    from collections.abc import Callable

A, B = "a" * 40, "b" * 40
MAIN, TAG = "refs/heads/main", "refs/tags/v1"
MOVED = [{"ref": MAIN, "commit": B, "previous": A}]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, str]]]:
    """Script what the source has at each look."""

    return partial(script, monkeypatch, base, git_ref)


def sensor(**arguments: Any) -> GitRefSensor:
    return GitRefSensor(task_id="wait", connection="git_shop", url="api.git", poll_seconds=0, **arguments)


def test_it_waits_in_the_triggerer(looks: Callable[..., list[dict[str, str]]]) -> None:
    """What is there at the start is the baseline, kept for a retry and given to the trigger."""
    looks({MAIN: A})
    store = Store()
    found = deferred(sensor(tags="v.*").execute, {"task_state_store": store})
    assert found.trigger.serialize()[1] == {
        "connection": "git_shop",
        "url": "api.git",
        "branches": None,
        "tags": "v.*",
        "known": {MAIN: A},
        "poll_seconds": 0,
        "since": "T1",
        "told": None,
    }
    assert (store, found.method_name) == ({STATE_KEY: {"refs": {MAIN: A}, "since": "T1"}}, "looked")


@pytest.mark.parametrize(
    ("stored", "since"),
    [({"refs": {MAIN: A}, "since": "T0"}, "T0"), ({MAIN: A}, None)],
    ids=["now", "before"],
)
def test_a_retry_keeps_the_first_tries_baseline(
    looks: Callable[..., list[dict[str, str]]], stored: dict[str, Any], since: str | None
) -> None:
    """A push between two tries is not lost: the retry keeps the first listing. State of older versions can be read."""
    looks()
    found = deferred(sensor().execute, {"task_state_store": Store({STATE_KEY: stored})})
    arguments = found.trigger.serialize()[1]
    assert (arguments["known"], arguments["since"]) == ({MAIN: A}, since)


def test_an_event_with_changes_is_the_result() -> None:
    """The state is left unchanged, so that the retry after a worker's death finds the change again."""
    store = Store()
    event = {"refs": MOVED, "gone": [], "seen": {MAIN: B}}
    assert sensor().looked({"task_state_store": store}, event, time.time()) == MOVED
    assert store == {}


def test_deleted_refs_end_no_wait() -> None:
    """The wait goes on without them, with the time that is left."""
    store, event = Store(), {"refs": [], "gone": [TAG], "seen": {MAIN: A}, "since": "T3"}
    found = deferred(sensor(timeout=100).looked, {"task_state_store": store}, event, time.time() - 40)
    assert store == {STATE_KEY: {"refs": {MAIN: A}, "since": "T3"}}
    arguments = found.trigger.serialize()[1]
    assert (arguments["known"], arguments["since"]) == ({MAIN: A}, "T3")
    assert found.timeout is not None
    assert 50 < found.timeout.total_seconds() <= 60


def test_the_timeout_counts_from_the_start() -> None:
    """Deletions can't prolong the wait for ever."""
    event = {"refs": [], "gone": [TAG], "seen": {}}
    with pytest.raises(AirflowSensorTimeout, match="no new branch or tag within 30 s"):
        sensor(timeout=30).looked({"task_state_store": Store()}, event, time.time() - 31)


def test_a_triggers_error_fails_the_task() -> None:
    """With the trigger's own message, and not retryable."""
    with pytest.raises(SourceError, match="no such repository") as caught:
        sensor().looked({"task_state_store": Store()}, {"error": "no such repository"}, 0)
    assert not caught.value.retryable


def test_without_a_triggerer_it_pokes(looks: Callable[..., list[dict[str, str]]]) -> None:
    """A ref that went and came back at the same commit counts as new."""
    left = looks({MAIN: A}, {MAIN: A}, {}, {MAIN: A})
    found = sensor(deferrable=False).execute({"task_state_store": Store()})
    assert (found, left) == ([{"ref": MAIN, "commit": A, "previous": None}], [])


def test_what_is_known_may_be_told(looks: Callable[..., list[dict[str, str]]]) -> None:
    """With `known` the first look may already be the result."""
    looks({MAIN: B})
    assert sensor(deferrable=False, known={MAIN: A}).execute({"task_state_store": Store()}) == MOVED


def test_an_event_of_an_older_trigger_is_taken() -> None:
    """One that was on its way during an upgrade says no `since`."""
    store = Store()
    deferred(sensor().looked, {"task_state_store": store}, {"refs": [], "gone": [], "seen": {}}, time.time())
    assert store == {STATE_KEY: {"refs": {}, "since": None}}


def test_a_poke_remembers_when_it_last_saw_nothing_new(looks: Callable[..., list[dict[str, str]]]) -> None:
    """The state follows looks that find the known refs or fewer, and stays where the result tells of a change."""
    store, step = Store(), sensor(deferrable=False)
    context = {"task_state_store": store}
    looks({MAIN: A, TAG: A}, {MAIN: A, TAG: A}, {MAIN: A}, {MAIN: B})
    states = []
    for _ in range(3):
        done = step.poke(context).is_done
        states.append((done, store[STATE_KEY]))
    assert states == [
        (False, {"refs": {MAIN: A, TAG: A}, "since": "T2"}),
        (False, {"refs": {MAIN: A}, "since": "T3"}),
        (True, {"refs": {MAIN: A}, "since": "T3"}),
    ]


class Whole(GitRefSensor):
    """A subclass that wants all of the event."""

    def _result(self, context: Any, event: dict[str, Any]) -> Any:
        return event


def test_a_subclass_gets_the_whole_event(looks: Callable[..., list[dict[str, str]]]) -> None:
    """The trigger's own, and the same from a poke."""
    looks({MAIN: A}, {MAIN: A}, {MAIN: B})
    event = {"refs": MOVED, "gone": [], "seen": {MAIN: B}, "looked": "T3", "since": "T2"}
    step = Whole(task_id="wait", connection="git_shop", poll_seconds=0, deferrable=False)
    assert step.looked({"task_state_store": Store()}, event, time.time()) == event
    assert step.execute({"task_state_store": Store()}) == event
