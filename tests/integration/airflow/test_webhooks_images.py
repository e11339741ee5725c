"""Registries' webhooks on a real Airflow database: images pushed by others get runs, and the chain's own do not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.core.events.event import Event, Kind
from delivery_chain.core.seal import Place, sealed
from delivery_chain.core.spec.in_force import Entry, State
from delivery_chain.core.spec.standing import Standing
from delivery_chain.hooks.signing_secret import signing_secret
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.copy.api import put_tag
from support.oci_images import push_image
from support.oci_memory import memory_registry
from support.webhook_airflow import (
    DIGEST,
    MAIN,
    OTHER_DIGEST,
    SECRET,
    A,
    connect,
    images,
    make_receiver,
    pushed,
    signed,
    spec,
)
from support.webhook_samples import SAMPLES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from delivery_chain.core.spec.model import ChainSpec
    from support.oci_memory import MemoryRegistry
    from support.webhook_airflow import Receiver, Sent
    from support.webhook_store import Stored

pytestmark = pytest.mark.integration
NAME = "base/python"
NOTIFICATION = (SAMPLES / "distribution" / "image-push" / "body.json").read_bytes()
"""The event as docker-registry sent it."""
BUILT = {"plan": {"instance": "home", "namespace": "shop", "repository": "api", "tags": ["edge"]}}
"""The part of `plan`'s result, in a run that built, that the receiver reads."""
SUBJECT = {
    "digest": DIGEST,
    "media_type": "application/vnd.oci.image.manifest.v1+json",
    "size": 1,
    "images": [{"digest": DIGEST, "platform": "linux/amd64"}],
}


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryRegistry]:
    """The registry behind the connection `home`."""
    with memory_registry() as held:
        fields = {"conn_type": "oci_registry", "host": held.registry.host, "extra": {"plain_http": True}}
        monkeypatch.setenv("AIRFLOW_CONN_HOME", json.dumps(fields))
        yield held


def store(held: MemoryRegistry, name: str, tag: str, sizes: tuple[int, ...] = (10,)) -> str:
    """Push an image; return its digest."""
    with RegistryClient(held.registry) as client:
        image = push_image(client, name, sizes=sizes)
        put_tag(client, name, tag, image.digest)
    return image.digest


def quay(receiver: Receiver, name: str, *tags: str) -> Sent:
    """Quay's push notification: no digest, no id, and the secret in the address."""
    namespace, _, repository = name.partition("/")
    said = {"repository": name, "namespace": namespace, "name": repository, "updated_tags": tags}
    return receiver.request(
        "POST", f"/delivery-chain/webhooks/quay?token={SECRET}", content=json.dumps(said).encode()
    )


def test_a_registrys_notification_is_a_run(
    stored: Stored, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docker-registry's event for a push starts a run for the image; the same event again starts none."""
    connect(monkeypatch, "registry", extra={"sender": "distribution"})
    stored.add(images("shop"))
    headers = {
        "authorization": f"Bearer {SECRET}",
        "content-type": "application/vnd.docker.distribution.events.v1+json",
    }
    first, again = (receiver.post("registry", NOTIFICATION, headers) for _ in range(2))
    ((chain, run_id),) = stored.runs()
    event: Event = stored.run(chain, run_id)["event"]
    assert event == Event(
        kind=Kind.IMAGE_PUSH,
        repository="api",
        tag="v1.2.0",
        digest="sha256:d804ea788636af2d77cfbda06e1625a7ee9ee41c66c2d7a713f579e0868bec0c",
        actor="robot",
        sender="webhook registry",
        delivery_id="46617ac6-65eb-46f5-a679-84577b17a5db",
        pushed_at=event.pushed_at,
        seen_at=event.seen_at,
    )
    assert (first.made, again.made, again.run_ids) == ([run_id], [], [run_id])
    assert run_id.startswith("image__api-v1.2.0__d804ea788636__")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer another"},
        {"authorization": f"Bearer {SECRET}x"},
        {"authorization": SECRET[:-1]},
    ],
)
def test_without_the_token_nothing_starts(
    stored: Stored, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    """Without the token, every request is refused and leaves nothing."""
    connect(monkeypatch, "registry", extra={"sender": "distribution"})
    stored.add(images("shop"))
    found = receiver.post("registry", NOTIFICATION, headers)
    assert (found.status, stored.nothing()) == (401, True)


def test_there_and_back_makes_three_runs(stored: Stored, receiver: Receiver) -> None:
    """A tag that moves and moves back is three pushes."""
    stored.add(images())
    made = [
        receiver.deliver(pushed((NAME, "latest", digest))).made for digest in (DIGEST, OTHER_DIGEST, DIGEST)
    ]
    assert [len(one) for one in made] == [1, 1, 1]
    assert len(set(stored.runs())) == 3


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (pushed((NAME, "_staging-0123456789ab", DIGEST)), "a tag that chains keep for themselves"),
        (pushed((NAME, f"sha256-{'1' * 64}", DIGEST)), "a tag that chains keep for themselves"),
        (pushed(("other/python", "v1", DIGEST)), "no chain covers this image"),
        (pushed(("base", "v1", DIGEST)), "no chain covers this image"),
    ],
    ids=["staging", "referrers", "other namespace", "no namespace"],
)
def test_no_run_and_why(stored: Stored, receiver: Receiver, said: dict[str, Any], why: str) -> None:
    """The response and the ledger say why no run was started."""
    stored.add(images())
    found = receiver.deliver(said)
    assert (found.status, [entry.why for entry in found.entries], stored.runs()) == (200, [why], [])
    assert stored.ledger() == found.entries


def test_a_chains_own_image_starts_nothing(stored: Stored, receiver: Receiver) -> None:
    """An image that the chain built is recognized when its push is reported. Another image or tag gets a run."""
    stored.add(spec())
    run_id = receiver.push(MAIN, "", A).made[0]
    leave(run_id, plan=BUILT, assemble=SUBJECT)
    own = receiver.deliver(pushed(("shop/api", "edge", DIGEST)))
    others = [
        receiver.deliver(pushed(("shop/api", tag, digest)))
        for tag, digest in (("edge", OTHER_DIGEST), ("stable", DIGEST))
    ]
    assert ([entry.why for entry in own.entries], own.made) == (["the chain built this image itself"], [])
    assert [len(one.made) for one in others] == [1, 1]


@pytest.mark.parametrize(
    "heir",
    [
        spec("renamed", scope=spec().scope),
        spec("renamed", scope=images("shop").scope, build=None, sources=None),
    ],
    ids=["builds", "takes images"],
)
def test_an_image_of_a_chain_that_was_renamed_starts_nothing(
    stored: Stored, receiver: Receiver, heir: ChainSpec
) -> None:
    """A run ends under its chain's old name, and publishes where another chain takes images by then."""
    stored.add(spec())
    run_id = receiver.push(MAIN, "", A).made[0]
    leave(run_id, plan=BUILT, assemble=SUBJECT)
    removed = Entry(number=1, fingerprint="0123456789abcdef", file="api.yaml", slots={}, state=State.REMOVED)
    stored.add(spec(), standing=Standing.of(removed))
    stored.add(heir)
    with make_receiver() as later:
        own = later.deliver(pushed(("shop/api", "edge", DIGEST)))
    assert ([entry.why for entry in own.entries], own.made) == (["the chain built this image itself"], [])


def test_a_copy_of_a_chains_image_elsewhere_is_a_push(stored: Stored, receiver: Receiver) -> None:
    """A chain's image is copied to another repository under the same tag: that is a push by others."""
    stored.add(spec())
    stored.add(images())
    leave(receiver.push(MAIN, "", A).made[0], plan=BUILT, assemble=SUBJECT)
    assert len(receiver.deliver(pushed((NAME, "edge", DIGEST))).made) == 1


@pytest.mark.parametrize("forged", ["plan", "assemble"])
@pytest.mark.parametrize("how", ["unsealed", "of another run"])
def test_an_edited_run_makes_nobody_overlook_a_push(
    stored: Stored, receiver: Receiver, forged: str, how: str
) -> None:
    """Users who may edit XComs can claim that the chain built an image; a push of it still gets a run."""
    stored.add(spec())
    run_id = receiver.push(MAIN, "", A).made[0]
    values: dict[str, Any] = {"plan": BUILT, "assemble": SUBJECT}
    leave(run_id, **{task: value for task, value in values.items() if task != forged})
    signed_for = Place("shop", "other" if how == "of another run" else run_id, forged)
    false = sealed(values[forged], signed_for, signing_secret())
    if how == "unsealed":
        false = values[forged]
    store_xcom(run_id, forged, false)
    found = receiver.deliver(pushed(("shop/api", "edge", DIGEST)))
    assert (found.status, len(found.made)) == (200, 1)


def leave(run_id: str, **values: Any) -> None:
    """Let tasks of the run return values with their seals."""
    for task_id, value in values.items():
        store_xcom(run_id, task_id, sealed(value, Place("shop", run_id, task_id), signing_secret()))


def store_xcom(run_id: str, task_id: str, value: Any) -> None:
    """Write an XCom, by any user."""
    from airflow.models.xcom import XComModel  # noqa: PLC0415
    from airflow.utils.session import create_session  # noqa: PLC0415

    with create_session() as session:
        XComModel.set(
            key="return_value", value=value, task_id=task_id, dag_id="shop", run_id=run_id, session=session
        )


def test_a_digest_that_is_not_told_is_asked_for(
    stored: Stored, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, home: MemoryRegistry
) -> None:
    """Quay reports only tags, so the registry is asked for digests. Unchanged bytes are a push if the tag moved."""
    connect(monkeypatch, "quay", extra={"sender": "quay"})
    stored.add(images())
    digests = [store(home, NAME, "v1")]
    found = [quay(receiver, NAME, "v1", "gone"), quay(receiver, NAME, "v1")]
    digests.append(store(home, NAME, "v1", (20,)))
    found.append(quay(receiver, NAME, "v1"))
    assert [one.status for one in found] == [200] * 3
    assert {entry.ref: entry.why for entry in found[0].entries} == {
        f"{NAME}:gone": "the registry no longer has this tag, or can't resolve it",
        f"{NAME}:v1": "",
    }
    assert ([len(one.made) for one in found], len(set(digests))) == ([1, 0, 1], 2)
    assert [stored.run(*run)["event"].digest for run in stored.runs()] == digests


def test_a_registry_that_fails(
    stored: Stored, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, home: MemoryRegistry
) -> None:
    """The sender is asked to retry, and nothing is written, not even what needs no registry."""
    connect(monkeypatch, "quay", extra={"sender": "quay"})
    stored.add(images())
    home.fail("HEAD", f"/v2/{NAME}/manifests/v1", 500)
    found = quay(receiver, NAME, "_staging-0123456789ab", "v1")
    assert (found.status, found.headers.get("retry-after"), stored.nothing()) == (503, "5", True)


def test_a_registry_that_refuses(
    stored: Stored, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, home: MemoryRegistry
) -> None:
    """It would refuse each time, and the sender retry forever: the delivery is accepted, and says why it has no run."""
    connect(monkeypatch, "quay", extra={"sender": "quay"})
    stored.add(images())
    home.fail("HEAD", f"/v2/{NAME}/manifests/v1", 403)
    found = quay(receiver, NAME, "v1")
    why = "the registry no longer has this tag, or can't resolve it"
    assert (found.status, [entry.why for entry in found.entries], stored.runs()) == (200, [why], [])


def test_nobody_asks_for_what_no_chain_takes(
    stored: Stored, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, home: MemoryRegistry
) -> None:
    """Images that no chain takes cause no request to the registry."""
    connect(monkeypatch, "quay", extra={"sender": "quay"})
    stored.add(images())
    quay(receiver, "other/python", "v1")
    assert home.requests == []


def test_many_images_at_once(stored: Stored, receiver: Receiver) -> None:
    """One delivery with many images of two namespaces, sent many times at once: each image gets one run."""
    stored.add(images(), images("infra"))
    named = [(f"{space}/x", f"v{n}", DIGEST) for n in range(5) for space in ("infra", "base")]
    found = receiver.all([signed(pushed(*named), delivery="one")] * 20)
    assert {one.status for one in found} == {200}
    assert (len(stored.runs()), sum(len(one.made) for one in found)) == (10, 10)
