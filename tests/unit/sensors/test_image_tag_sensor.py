from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowSensorTimeout

from delivery_chain.errors import ConfigurationError, RegistryError
from delivery_chain.sensors import base
from delivery_chain.sensors.image_tag import STATE_KEY, ImageTagSensor
from delivery_chain.triggers import image_tag
from support.scripted_looks import Store, deferred, script

if TYPE_CHECKING:
    from collections.abc import Callable

A, B = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
V1, V2 = "shop/api:v1", "shop/api:v2"
MOVED = [{"name": "shop/api", "tag": "v1", "digest": B, "previous": A}]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[dict[str, str]]]:
    """Script what the registry has at each look."""

    return partial(script, monkeypatch, base, image_tag)


def sensor(**arguments: Any) -> ImageTagSensor:
    named = {"repository": "shop/api", "poll_seconds": 0} | arguments
    return ImageTagSensor(task_id="wait", connection="home", **named)


def test_it_waits_in_the_triggerer(looks: Callable[..., list[dict[str, str]]]) -> None:
    """What is there at the start is the baseline, kept for a retry and given to the trigger with its time."""
    looks({V1: A})
    store = Store()
    step = sensor(repositories=["shop/web"], namespaces=["infra"], exclude=["infra/old"], tags="v.*")
    found = deferred(step.execute, {"task_state_store": store})
    assert found.trigger.serialize() == (
        "delivery_chain.triggers.image_tag.ImageTagTrigger",
        {
            "connection": "home",
            "repositories": ["shop/api", "shop/web"],
            "namespaces": ["infra"],
            "exclude": ["infra/old"],
            "tags": "v.*",
            "known": {V1: A},
            "poll_seconds": 0,
            "since": "T1",
            "told": None,
        },
    )
    assert (store, found.method_name) == ({STATE_KEY: {"refs": {V1: A}, "since": "T1"}}, "looked")


def test_the_sensor_looks_at_what_its_trigger_looks_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same arguments, so that the baseline fits."""
    asked: list[Any] = []
    monkeypatch.setattr(image_tag, "look", lambda *names, **more: asked.append((names, more)) or {})
    found = deferred(sensor(exclude=["shop/x"]).execute, {"task_state_store": Store()})
    found.trigger.look()  # type: ignore[attr-defined]
    assert (len(asked), asked[0]) == (2, asked[1])


def test_a_retry_keeps_the_first_tries_baseline(looks: Callable[..., list[dict[str, str]]]) -> None:
    """A push between two tries is not lost: the retry keeps the first listing."""
    looks()
    store = Store({STATE_KEY: {"refs": {V1: A}, "since": "T0"}})
    arguments = deferred(sensor().execute, {"task_state_store": store}).trigger.serialize()[1]
    assert (arguments["known"], arguments["since"]) == ({V1: A}, "T0")


def test_an_event_with_changes_is_the_result() -> None:
    """The state is left unchanged, so that the retry after a worker's death finds the change again."""
    store = Store()
    event = {"refs": MOVED, "gone": [], "seen": {V1: B}, "since": "T0"}
    assert (sensor().looked({"task_state_store": store}, event, time.time()), store) == (MOVED, {})


def test_deleted_tags_end_no_wait() -> None:
    """The wait goes on without them, with the time that is left."""
    store, event = Store(), {"refs": [], "gone": [V2], "seen": {V1: A}, "since": "T3"}
    found = deferred(sensor(timeout=100).looked, {"task_state_store": store}, event, time.time() - 40)
    assert store == {STATE_KEY: {"refs": {V1: A}, "since": "T3"}}
    assert found.timeout is not None
    assert 50 < found.timeout.total_seconds() <= 60


def test_the_timeout_counts_from_the_start() -> None:
    """Deletions can't prolong the wait for ever."""
    event = {"refs": [], "gone": [V1], "seen": {}, "since": None}
    with pytest.raises(AirflowSensorTimeout, match="no new image tag within 30 s"):
        sensor(timeout=30).looked({"task_state_store": Store()}, event, time.time() - 31)


def test_a_triggers_error_fails_the_task() -> None:
    """With the trigger's own message, and not retryable."""
    with pytest.raises(RegistryError, match="wrong password") as caught:
        sensor().looked({"task_state_store": Store()}, {"error": "wrong password"}, 0)
    assert not caught.value.retryable


def test_without_a_triggerer_it_pokes(looks: Callable[..., list[dict[str, str]]]) -> None:
    """A tag that went and came back at the same digest counts as new."""
    left = looks({V1: A}, {V1: A}, {}, {V1: A})
    found = sensor(deferrable=False).execute({"task_state_store": Store()})
    assert (found, left) == ([{"name": "shop/api", "tag": "v1", "digest": A, "previous": None}], [])


@pytest.mark.parametrize("known", [{V1: A}, {"v1": A}], ids=["with the repository", "without"])
def test_what_is_known_may_be_told(looks: Callable[..., list[dict[str, str]]], known: dict[str, str]) -> None:
    """With `known` the first look may already be the result; one repository need not be named again."""
    looks({V1: B})
    assert sensor(deferrable=False, known=known).execute({"task_state_store": Store()}) == MOVED


@pytest.mark.parametrize("more", [{"repositories": ["shop/web"]}, {"namespaces": ["infra"]}], ids=str)
def test_short_names_need_one_repository(
    looks: Callable[..., list[dict[str, str]]], more: dict[str, Any]
) -> None:
    """A bare tag of several repositories is no tag of any."""
    looks()
    with pytest.raises(ConfigurationError) as caught:
        sensor(known={"v1": A}, **more).execute({"task_state_store": Store()})
    assert str(caught.value) == (
        "known image tags: expected `name:tag` because more than one repository is watched, found 'v1'; "
        "prefix it with the repository"
    )


def test_the_pause_is_the_installations(
    looks: Callable[..., list[dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the Dag says nothing, `image_poll_seconds` holds."""
    monkeypatch.setenv("AIRFLOW__DELIVERY_CHAIN__IMAGE_POLL_SECONDS", "45")
    looks({})
    found = deferred(sensor(poll_seconds=None).execute, {"task_state_store": Store()})
    assert found.trigger.serialize()[1]["poll_seconds"] == 45
