"""Sensors for image tags, on a real registry that is pushed to, deleted from, stopped and started."""

from __future__ import annotations

import asyncio
import json
import queue
import threading
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from delivery_chain.errors import ConfigurationError, DeliveryChainError, RegistryError, RegistryUnreachable
from delivery_chain.oci.client import RegistryClient
from delivery_chain.sensors.image_tag import ImageTagSensor
from delivery_chain.triggers import base
from delivery_chain.triggers.image_tag import ImageTagTrigger, look
from support.oci_images import push_image
from support.oci_registry import docker_registry, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from delivery_chain.core.names.registry import Registry

pytestmark = pytest.mark.integration

API = "shop/api"
PATIENCE = 20.0
"""Timeout in seconds for events that take about one second."""


class Home:
    """A registry that can be stopped and started, and the connection `home` to it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._monkeypatch = monkeypatch
        self._port = free_port()
        self._running = ExitStack()
        self.connect(password="")

    def start(self, **more: Any) -> Registry:
        """Start the registry with its previous contents."""
        registry = docker_registry(self._folder, port=self._port, **more)
        self.registry = self._running.enter_context(registry)
        return self.registry

    def stop(self) -> None:
        """Stop the registry; its contents stay."""
        self._running.close()

    def connect(self, password: str) -> None:
        """Create the connection."""
        fields: dict[str, Any] = {"conn_type": "oci_registry", "host": f"127.0.0.1:{self._port}"}
        if password:
            fields |= {"login": "robot", "password": password}
        self._monkeypatch.setenv("AIRFLOW_CONN_HOME", json.dumps(fields | {"extra": {"plain_http": True}}))

    def push(self, name: str, *tags: str, seed: int = 1) -> str:
        """Push an image under tags; return its digest."""
        with RegistryClient(self.registry) as client:
            entry = push_image(client, name, seed=seed, sizes=(100,))
            raw = client.get_manifest(name, entry.digest).raw
            for tag in tags:
                client.put_manifest(name, tag, raw, entry.media_type)
        return entry.digest

    def push_elsewhere(self, name: str, *tags: str, seed: int) -> str:
        """Push over another address, while the registry can't be reached at the one in the connection."""
        with docker_registry(self._folder) as self.registry:
            return self.push(name, *tags, seed=seed)

    def delete(self, name: str, tag: str) -> None:
        """Delete one tag."""
        with RegistryClient(self.registry) as client:
            client.delete_tag(name, tag)


class Watch(ImageTagTrigger):
    """A trigger that runs in a thread of its own and reports its polls."""

    def start(self) -> Watch:
        """Start polling."""
        self.looks: queue.Queue[dict[str, str] | DeliveryChainError] = queue.Queue()
        self.events: queue.Queue[Any] = queue.Queue()
        self.thread = threading.Thread(target=lambda: asyncio.run(self._first()), daemon=True)
        self.thread.start()
        return self

    def look(self) -> dict[str, str]:
        """Poll, and report the result."""
        try:
            seen = super().look()
        except DeliveryChainError as error:
            self.looks.put(error)
            raise
        self.looks.put(seen)
        return seen

    def looked(self) -> dict[str, str] | DeliveryChainError:
        """Return what the next poll saw."""
        return self.looks.get(timeout=PATIENCE)

    def fired(self) -> Any:
        """Return the event, after which the trigger is done."""
        event = self.events.get(timeout=PATIENCE)
        self.thread.join(PATIENCE)
        return event

    async def _first(self) -> None:
        async for event in self.run():
            self.events.put(event.payload)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    monkeypatch.setattr(base, "delay_after", lambda *_: 0.05)
    made = Home(tmp_path, monkeypatch)
    made.start()
    yield made
    made.stop()


def watch(known: dict[str, str] | None, **more: Any) -> Watch:
    return Watch("home", [API], known=known, poll_seconds=0.05, **more).start()


def change(tag: str, digest: str, previous: str | None) -> dict[str, str | None]:
    return {"name": API, "tag": tag, "digest": digest, "previous": previous}


def test_a_repository_comes_to_be(home: Home) -> None:
    """It does not exist, then has a tag and a staging tag; `since` is the start of the last poll without the tag."""
    begun = datetime.now(UTC)
    trigger = watch({})
    assert trigger.looked() == {}
    digest = home.push(API, "_staging-0123456789ab", "v1")
    pushed = datetime.now(UTC)
    event = trigger.fired()
    since, looked = (datetime.fromisoformat(event.pop(name)) for name in ("since", "looked"))
    assert event == {"refs": [change("v1", digest, None)], "gone": [], "seen": {f"{API}:v1": digest}}
    assert begun < since < pushed
    assert since < looked


def test_a_tag_moves(home: Home) -> None:
    """The event has both digests, and only the tag that moved."""
    first = home.push(API, "latest", "v1")
    trigger = watch(look("home", [API]))
    trigger.looked()
    second = home.push(API, "latest", seed=2)
    event = trigger.fired()
    assert event["refs"] == [change("latest", second, first)]
    assert event["seen"] == {f"{API}:latest": second, f"{API}:v1": first}


def test_a_tag_goes_and_comes_back(home: Home) -> None:
    """The sensor keeps waiting after the deletion; when the tag reappears at the same digest, it counts as new."""
    digest = home.push(API, "v1", "v2")
    step = ImageTagSensor(task_id="wait", connection="home", repository=API, poll_seconds=0.05)
    store: dict[str, Any] = {}
    context: Any = {"task_state_store": Store(store)}

    def waiting(call: Any, *arguments: Any) -> tuple[Watch, dict[str, Any]]:
        with pytest.raises(TaskDeferred) as caught:
            call(*arguments)
        assert caught.value.kwargs is not None
        return Watch(**caught.value.trigger.serialize()[1]).start(), caught.value.kwargs

    trigger, more = waiting(step.execute, context)
    home.delete(API, "v2")
    event = trigger.fired()
    assert (event["refs"], event["gone"]) == ([], [f"{API}:v2"])
    trigger, more = waiting(step.looked, context, event, more["started"])
    assert store["image_tags"] == {"refs": {f"{API}:v1": digest}, "since": event["since"]}
    trigger.looked()
    home.push(API, "v2")
    assert step.looked(context, trigger.fired(), more["started"]) == [change("v2", digest, None)]


def test_a_push_while_the_registry_cannot_be_asked(home: Home) -> None:
    """Failing polls do not end the wait. After the outage the push is found, and `since` is before the outage."""
    first = home.push(API, "latest")
    known = {f"{API}:latest": first}
    trigger = watch(known)
    assert trigger.looked() == known
    home.stop()
    while not isinstance(found := trigger.looked(), RegistryUnreachable):
        assert found == known
    down = datetime.now(UTC)
    second = home.push_elsewhere(API, "latest", seed=2)
    home.start()
    event = trigger.fired()
    assert event["refs"] == [change("latest", second, first)]
    assert datetime.fromisoformat(event["since"]) < down


def test_a_refused_login_ends_the_wait(home: Home) -> None:
    """Waiting can't fix it; the message says what to check, without the password."""
    home.stop()
    home.start(htpasswd=True)
    home.connect(password="another-password")
    event = watch({}).fired()
    assert (list(event), "another-password" in event["error"]) == (["error"], False)
    assert "Check login and password of the connection" in event["error"]
    step = ImageTagSensor(task_id="wait", connection="home", repository=API)
    with pytest.raises(RegistryError, match="Check login and password of the connection"):
        step.looked({}, event, 0.0)  # type: ignore[typeddict-item]


def test_a_new_password_counts_at_once(home: Home) -> None:
    """The connection is read for each poll."""
    home.stop()
    home.start(htpasswd=True)
    home.connect(password="s3cret-pass")
    digest = home.push(API, "v1")
    assert look("home", [API]) == {f"{API}:v1": digest}


def test_a_missing_connection_is_told(home: Home) -> None:
    """The first poll, in the task itself, reports it."""
    step = ImageTagSensor(task_id="wait", connection="nowhere", repository=API)
    with pytest.raises(ConfigurationError, match="connection 'nowhere' is missing"):
        step.execute({"task_state_store": Store({})})  # type: ignore[typeddict-item]


class Store:
    """A task's state, with the parts that the sensor uses."""

    def __init__(self, kept: dict[str, Any]) -> None:
        self._kept = kept

    def get(self, key: str) -> Any:
        return self._kept.get(key)

    def set(self, key: str, value: Any) -> None:
        self._kept[key] = json.loads(json.dumps(value))
