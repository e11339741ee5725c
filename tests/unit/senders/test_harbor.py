from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from delivery_chain.core.events.notification import Notification
from delivery_chain.core.events.push import Push
from delivery_chain.errors import WebhookRefused
from delivery_chain.senders.base import Request, receive
from delivery_chain.senders.harbor import HARBOR
from support.registry_samples import NOW, SECRET, changed, sample

DEBIAN = "sha256:8a9e9863dbb6e10edb5adfe917c00da84e1700fa76e7ed02476aa6e6fb8ee0d8"
BUSYBOX = "sha256:dde8e930c7b6a490f728e66292bc9bce42efc9bbb5278bae40e4f30f6e00fe8c"
DIGEST_ONLY = "pushed without a tag, like the platforms of an index and an image's referrers"
SCANNER = "robot$library+scanner-Trivy-51fe4548-bbe5-11ed-9217-0242ac14000d"


def read(request: Request) -> Notification:
    return receive(HARBOR, request, [SECRET], NOW)


def test_a_push_in_the_default_format() -> None:
    """As in Harbor's documentation. It has no id: one is made of the bytes, which Harbor stores."""
    assert read(sample("harbor", "push-default")) == Notification(
        event="PUSH_ARTIFACT",
        delivery_id="sha256:bcd3c52d9dcb7908475bbc5bd4ccab0e0f8b74e321525aea62c88b7786b7f97a",
        pushes=(Push.of_image(name="test-webhook/debian", tag="latest", digest=DEBIAN),),
        actor="admin",
        pushed_at=datetime(2020, 4, 15, 3, 45, 8, tzinfo=UTC),
    )


def test_a_push_as_a_cloud_event() -> None:
    """The event's own id, and the webhook's policy as the hook."""
    assert read(sample("harbor", "push-cloudevents")) == Notification(
        event="harbor.artifact.pushed",
        delivery_id="4b2f89a6-548d-4c12-9993-a1f5790b97d2",
        hook="/projects/1/webhook/policies/3",
        pushes=(Push.of_image(name="library/busybox", tag="1.36", digest=BUSYBOX),),
        actor=SCANNER,
        pushed_at=datetime(2023, 3, 6, 6, 8, 43, tzinfo=UTC),
    )


def test_several_resources_are_several_images() -> None:
    """One event may name more than one; what has its digest as its tag was pushed without a tag."""
    resources = [{"digest": BUSYBOX, "tag": tag} for tag in ("1.36", BUSYBOX, "1", "sha256-aa.sig")]
    found = read(changed("harbor", "push-cloudevents", data__resources=resources))
    assert found.pushes == tuple(
        Push.of_image(name="library/busybox", tag=tag, digest=BUSYBOX) for tag in ("1.36", "1")
    )
    assert found.ignored == ""


@pytest.mark.parametrize(
    ("case", "actor", "why"),
    [
        ("pull-cloudevents", SCANNER, "a pull"),
        ("push-by-digest", "harbor#proxy-cache-service", DIGEST_ONLY),
        (
            "replication",
            "admin",
            "a replication's own report; each image that it copies is reported as a push",
        ),
    ],
)
def test_recorded_events_that_start_nothing(case: str, actor: str, why: str) -> None:
    """They have no image and no time of a push, and say why."""
    found = read(sample("harbor", case))
    assert (found.pushes, found.pushed_at, found.actor, found.ignored) == ((), None, actor, why)
    assert found.delivery_id


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("DELETE_ARTIFACT", "a deletion"),
        ("SCANNING_COMPLETED", "the end of a scan; the chain runs its own scan"),
        ("SCANNING_FAILED", "the end of a scan; the chain runs its own scan"),
        ("SCANNING_STOPPED", "the end of a scan; the chain runs its own scan"),
        ("QUOTA_EXCEED", "a warning about a quota"),
        ("QUOTA_WARNING", "a warning about a quota"),
        ("TAG_RETENTION", "a deletion by the project's retention rules"),
        ("UPLOAD_CHART", "a chart"),
        ("harbor.scan.completed", "the end of a scan; the chain runs its own scan"),
        (
            "harbor.replication.status.changed",
            "a replication's own report; each image that it copies is reported as a push",
        ),
        ("harbor.quota.warned", "a warning about a quota"),
        ("harbor.tag.created", "'harbor.tag.created' is not a push"),
        ("x" * 190, f"'{'x' * 60}' is not a push"),
    ],
)
def test_other_kinds_say_why(kind: str, why: str) -> None:
    """Every documented kind of event, and one that is not."""
    found = read(changed("harbor", "push-default", type=kind))
    assert (found.event, found.pushes, found.ignored) == (kind, (), why)


def test_a_signature_starts_nothing() -> None:
    """Cosign pushes its signatures as tags."""
    tag = f"sha256-{'a' * 64}.sig"
    found = read(changed("harbor", "push-default", event_data__resources__0__tag=tag))
    assert (found.pushes, found.ignored) == ((), f"the tag {tag} is a referrer's or the chain's own")


def test_an_old_payload_without_the_full_name() -> None:
    """The project and the name make the repository's name."""
    found = read(changed("harbor", "push-default", event_data__repository__repo_full_name=None))
    assert [push.name for push in found.pushes] == ["test-webhook/debian"]


def test_ids_are_the_same_for_the_same_bytes_and_time_only() -> None:
    """Another time, another image and another webhook of the same push are told apart as they should be."""
    same = read(sample("harbor", "push-default")).delivery_id
    later = read(changed("harbor", "push-default", occur_at=1586922309)).delivery_id
    other = read(changed("harbor", "push-default", event_data__resources__0__tag="v2")).delivery_id
    assert read(sample("harbor", "push-default")).delivery_id == same
    assert len({same, later, other}) == 3


def test_without_a_time_there_is_no_id() -> None:
    """Two pushes of one tag would have the same bytes: none may count as the other's redelivery."""
    found = read(changed("harbor", "push-default", occur_at=None))
    assert (found.delivery_id, found.pushed_at, len(found.pushes)) == ("", None, 1)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("type", None, "expected a text at type, found nothing"),
        ("type", {}, "expected a text at type, found dict"),
        ("event_data", None, "expected a text at repository.namespace, found nothing"),
        ("event_data__resources", {"tag": "v1"}, "expected a list of objects at resources"),
        ("event_data__resources", ["v1"], "expected a list of objects at resources"),
        ("event_data__resources", [{}] * 5001, "expected at most 5000 at resources, found 5001"),
        ("event_data__resources__0__digest", None, "expected a text at digest, found nothing"),
        (
            "event_data__resources__0__tag",
            7,
            "the payload names no valid image: Input should be a valid string",
        ),
        (
            "event_data__repository__repo_full_name",
            "Test/Debian",
            (
                "the payload names no valid image: Value error, repository name 'Test/Debian': expected lowercase "
                "words of [a-z0-9] joined by . _ __ - and /, at most 255 characters"
            ),
        ),
    ],
)
def test_other_shapes_are_refused(path: str, value: object, message: str) -> None:
    """One clear line says what is missing or wrong."""
    with pytest.raises(WebhookRefused) as refused:
        read(changed("harbor", "push-default", **{path: value}))
    assert (refused.value.status, str(refused.value)) == (400, message)


def test_a_cloud_event_needs_its_id() -> None:
    """Without it a redelivery could not be told."""
    with pytest.raises(WebhookRefused, match="expected a text at id, found nothing"):
        read(changed("harbor", "push-cloudevents", id=None))


@pytest.mark.parametrize("time", [True, -1, 0, 1e300, 10**400, "soon", [], "2023-03-06T06:08:43"])
def test_a_time_that_is_none_is_left_out(time: object) -> None:
    """A push counts also where its time can't be read."""
    found = read(changed("harbor", "push-default", occur_at=time))
    assert (len(found.pushes), found.pushed_at) == (1, None)


def test_an_empty_list_of_resources_holds_no_image() -> None:
    """Nothing was pushed: nothing starts, and the delivery says so."""
    request = changed("harbor", "push-default", event_data__resources=[])
    assert json.loads(request.body)["event_data"]["resources"] == []
    assert (read(request).pushes, read(request).ignored) == ((), "it names no image")
