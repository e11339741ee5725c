from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.core.events.notification import Notification
from delivery_chain.core.events.push import Push
from delivery_chain.errors import WebhookRefused
from delivery_chain.oci.client import RegistryClient
from delivery_chain.senders.base import Request, receive
from delivery_chain.senders.distribution import DISTRIBUTION
from support.notifications import Endpoint, endpoint, notifying
from support.oci_images import push_image, push_index
from support.oci_registry import docker_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from delivery_chain.oci.manifest import Descriptor

pytestmark = pytest.mark.integration

SECRET = "of-the-registry"


@pytest.fixture
def told() -> Iterator[Endpoint]:
    """The endpoint that receives the registry's notifications."""
    with endpoint() as found:
        yield found


@pytest.fixture
def client(told: Endpoint, tmp_path: Path) -> Iterator[RegistryClient]:
    """A client of a registry that notifies, as the user `robot`."""
    with (
        docker_registry(tmp_path, htpasswd=True, notifications=notifying(told.url, SECRET)) as registry,
        RegistryClient(registry) as found,
    ):
        yield found


def tagged(received: list[tuple[dict[str, str], bytes]]) -> list[dict[str, Any]]:
    """The events for pushes of a tag."""
    events = [event for _, body in received for event in json.loads(body)["events"]]
    return [event for event in events if event["action"] == "push" and "tag" in event["target"]]


def tag(client: RegistryClient, name: str, tag: str, entry: Descriptor) -> None:
    client.put_manifest(name, tag, client.get_manifest(name, entry.digest).raw, entry.media_type)


def deliveries(told: Endpoint) -> list[Notification]:
    return [receive(DISTRIBUTION, Request(headers, body), [SECRET], NOW) for headers, body in told.received]


NOW = datetime(2026, 6, 1, tzinfo=UTC)


def test_a_registry_tells_each_tagged_push_once(client: RegistryClient, told: Endpoint) -> None:
    """Of all events for an image and an index of two platforms, the two tags count as images; a signature does not."""
    since = datetime.now(UTC)
    children = tuple(
        push_image(client, "shop/api", seed=at, platform=platform)
        for at, platform in enumerate(("linux/amd64", "linux/arm64"), 1)
    )
    index = push_index(client, "shop/api", children)
    tag(client, "shop/api", "v1.2.0", children[0])
    tag(client, "shop/api", f"{index.digest.replace(':', '-')}.sig", children[1])
    tag(client, "shop/api", "v1.2.1", index)
    told.wait(lambda received: len(tagged(received)) == 3)

    found = [delivery for delivery in deliveries(told) if delivery.pushes]
    events = [tagged(told.received)[at] for at in (0, 2)]
    assert found == [
        Notification(
            event="push",
            delivery_id=event["id"],
            pushes=(Push.of_image(name="shop/api", tag=name, digest=entry.digest),),
            actor="robot",
            pushed_at=datetime.fromisoformat(event["timestamp"]),
        )
        for event, name, entry in zip(events, ("v1.2.0", "v1.2.1"), (children[0], index), strict=True)
    ]
    assert all(
        delivery.pushed_at and since <= delivery.pushed_at <= since + timedelta(minutes=1)
        for delivery in found
    )
    others = [delivery for delivery in deliveries(told) if not delivery.pushes]
    assert {(delivery.event, delivery.ignored) for delivery in others} == {
        ("push", "a layer or another blob"),
        ("push", "pushed without a tag, like the platforms of an index and an image's referrers"),
        ("push", f"the tag {index.digest.replace(':', '-')}.sig is a referrer's or the chain's own"),
        ("pull", "a pull"),
    }
    assert len({delivery.delivery_id for delivery in deliveries(told)}) == len(told.received)


def test_a_redelivery_is_the_same_delivery(client: RegistryClient, told: Endpoint) -> None:
    """A registry that gets a 503 sends the same event again, until it is accepted."""
    told.refuse = 2
    tag(client, "shop/api", "v1", push_image(client, "shop/api"))
    told.wait(lambda received: len(tagged(received)) == 1)
    bodies = [body for _, body in told.received]
    first, *others = deliveries(told)
    assert bodies[0] == bodies[1] == bodies[2]
    assert others[:2] == [first, first]
    assert len({delivery.delivery_id for delivery in others}) == len(set(bodies)) == len(bodies) - 2


def test_another_secret_opens_nothing(client: RegistryClient, told: Endpoint) -> None:
    """The registry's header is the whole proof."""
    push_image(client, "shop/api")
    told.wait(bool)
    headers, body = told.received[0]
    assert headers["authorization"] == f"Bearer {SECRET}"
    with pytest.raises(WebhookRefused) as refused:
        receive(DISTRIBUTION, Request(headers, body), ["another"], NOW)
    assert refused.value.status == 401
