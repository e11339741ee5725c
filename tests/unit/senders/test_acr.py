from __future__ import annotations

from datetime import UTC, datetime

import pytest

from delivery_chain.core.events.notification import Notification
from delivery_chain.core.events.push import Push
from delivery_chain.errors import WebhookRefused
from delivery_chain.senders.acr import ACR
from delivery_chain.senders.base import Request, receive
from support.registry_samples import NOW, SECRET, changed, sample

DIGEST = "sha256:457f4aa83fc9a6663ab9d1b0a6e2dce25a12a943ed5bf2c1747c58d48bbb4917"


def read(request: Request) -> Notification:
    return receive(ACR, request, [SECRET], NOW)


def test_a_trigger() -> None:
    """The documented body; its time is China's."""
    assert read(sample("acr", "push")) == Notification(
        event="push",
        delivery_id="sha256:daeaf53a7089db8d5d3d911e0a45f7d5c13ca3ddf101ec8e5451e928baae5eec",
        pushes=(Push.of_image(name="namespace/repo-test", tag="latest", digest=DIGEST),),
        pushed_at=datetime(2016, 11, 29, 4, 25, 46, tzinfo=UTC),
    )


def test_a_finished_build_as_an_event() -> None:
    """The documented CloudEvent of EventBridge, which names no digest."""
    assert read(sample("acr", "build-completed")) == Notification(
        event="cr:Artifact:BuildCompleted",
        delivery_id="45ef4dewdwe1-7c35-447a-bd93-fab****",
        pushes=(Push.of_image(name="scan/mix-vuls", tag="mix-vuls"),),
        pushed_at=datetime(2020, 11, 19, 13, 4, 41, tzinfo=UTC),
    )


def test_a_push_as_an_event() -> None:
    """Its shape is not documented: it is read like a build's, with a digest where there is one."""
    found = read(changed("acr", "build-completed", type="cr:Artifact:PushCompleted", data__Digest=DIGEST))
    assert found.pushes == (Push.of_image(name="scan/mix-vuls", tag="mix-vuls", digest=DIGEST),)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"data__BuildStatus": "FAILED"}, "a build without an image"),
        ({"type": "cr:Artifact:ScanCompleted"}, "the end of a scan; the chain runs its own scan"),
        ({"type": "cr:Artifact:SigningCompleted"}, "a signature"),
        ({"type": "cr:Artifact:DeliveryChainCompleted"}, "the end of a chain of ACR itself"),
        ({"type": "cr:Artifact:SynchronizationCompleted"}, "a synchronization's own report"),
        ({"type": "cr:ActionTrail:ApiCall"}, "'cr:ActionTrail:ApiCall' is not a push"),
    ],
)
def test_other_events_say_why(change: dict[str, object], why: str) -> None:
    """Each documented type of event."""
    found = read(changed("acr", "build-completed", **change))
    assert (found.pushes, found.pushed_at, found.ignored) == ((), None, why)


def test_ids_of_triggers() -> None:
    """The same for the same push, with whatever else in the body; another for another digest, tag or time."""
    known = read(sample("acr", "push")).delivery_id
    assert read(changed("acr", "push", repository__repo_type="PRIVATE", more=1)).delivery_id == known
    changes: list[dict[str, object]] = [
        {"push_data__digest": f"sha256:{'a' * 64}"},
        {"push_data__tag": "v1"},
        {"push_data__pushed_at": "2016-11-29 12:25:47"},
        {"repository__repo_full_name": "namespace/other"},
        {"repository__region": "cn-beijing"},
    ]
    assert len({known, *(read(changed("acr", "push", **change)).delivery_id for change in changes)}) == 6


@pytest.mark.parametrize("value", [None, True, "soon", "9999-99-99 00:00:00"])
def test_without_a_time_there_is_no_id(value: object) -> None:
    """A later push of the tag would look the same."""
    found = read(changed("acr", "push", push_data__pushed_at=value))
    assert (found.delivery_id, found.pushed_at, len(found.pushes)) == ("", None, 1)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            sample("acr", "documented-name"),
            (
                "the payload names no valid image: Value error, repository name 'namespace/repoTest': expected "
                "lowercase words of [a-z0-9] joined by . _ __ - and /, at most 255 characters"
            ),
        ),
        (changed("acr", "push", push_data__tag=None), "expected a text at push_data.tag, found nothing"),
        (
            changed("acr", "push", push_data__digest=["x"]),
            "the payload names no valid image: Input should be a valid string",
        ),
        (
            changed("acr", "push", repository=None),
            "expected a text at repository.namespace, found nothing",
        ),
        (changed("acr", "build-completed", id=None), "expected a text at id, found nothing"),
        (
            changed("acr", "build-completed", data__Tag=None),
            "expected a text at Tag, found nothing",
        ),
    ],
    ids=["name", "tag", "digest", "repository", "id", "event tag"],
)
def test_other_shapes_are_refused(request_: Request, message: str) -> None:
    """One clear line; the name of the documented example is none that a registry takes."""
    with pytest.raises(WebhookRefused) as refused:
        read(request_)
    assert (refused.value.status, str(refused.value)) == (400, message)
