from __future__ import annotations

from dataclasses import replace

import pytest

from delivery_chain.core.events.notification import Notification
from delivery_chain.core.events.push import Push
from delivery_chain.errors import WebhookRefused
from delivery_chain.senders.base import Request, receive
from delivery_chain.senders.quay import QUAY
from support.registry_samples import NOW, SECRET, changed, sample


def read(request: Request) -> Notification:
    return receive(QUAY, request, [SECRET], NOW)


def test_a_push() -> None:
    """A name and tags is all that Quay says: no digest, time, person or id."""
    assert read(sample("quay", "push")) == Notification(
        event="repo_push", delivery_id="", pushes=(Push.of_image(name="mynamespace/repository", tag="1.2.3"),)
    )


def test_an_old_version_sends_tags_with_image_ids() -> None:
    """These ids are no digests, and are left out."""
    assert read(sample("quay", "push-old")) == Notification(
        event="repo_push",
        delivery_id="",
        pushes=(Push.of_image(name="mynamespace/repository", tag="latest"),),
    )


@pytest.mark.parametrize(
    ("case", "event", "why"),
    [
        ("test-notification", "repo_push", "a test notification"),
        ("build-queued", "notification", "a build's state; its image is reported as a push"),
    ],
)
def test_what_is_no_push_is_ignored(case: str, event: str, why: str) -> None:
    """Quay's own test looks like a push of two tags: its count of pruned images gives it away."""
    assert read(sample("quay", case)) == Notification(event=event, delivery_id="", ignored=why)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"vulnerability": {"id": "CVE-1"}}, "a scan's result; the chain runs its own scan"),
        ({"message": "TEST NOTIFICATION"}, "not a push: it updates no tag"),
    ],
)
def test_other_notifications_say_why(more: dict[str, object], why: str) -> None:
    """Quay names no kind of event, so its contents decide."""
    found = read(changed("quay", "push", updated_tags=None, **more))
    assert (found.pushes, found.ignored) == ((), why)


def test_several_tags_are_several_images() -> None:
    """Tags of signatures are left out."""
    found = read(changed("quay", "push", updated_tags=["1.2.3", f"sha256-{'a' * 64}.att", "1.2"]))
    assert [push.tag for push in found.pushes] == ["1.2.3", "1.2"]


def test_a_push_that_updated_no_tag() -> None:
    """It says so."""
    assert read(changed("quay", "push", updated_tags=[])).ignored == "no tag was updated"


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            replace(sample("quay", "push"), body=b"{}"),
            "expected a text at namespace, found nothing",
        ),
        (
            changed("quay", "push", updated_tags="latest"),
            "expected a list of tags at updated_tags",
        ),
        (
            changed("quay", "push", updated_tags=["latest", None]),
            "expected a list of tags at updated_tags",
        ),
        (
            changed("quay", "push", updated_tags=["latest", {"a": 1}]),
            "the payload names no valid image: Input should be a valid string",
        ),
        (
            changed("quay", "push", updated_tags=["v1"] * 5001),
            "expected at most 5000 at updated_tags, found 5001",
        ),
        (
            changed("quay", "push", updated_tags=["a b"]),
            (
                "the payload names no valid image: Value error, tag 'a b': expected 1 to 128 characters of "
                "[A-Za-z0-9_.-], the first not . or -"
            ),
        ),
    ],
    ids=["empty", "text", "null", "object", "huge", "no tag"],
)
def test_other_shapes_are_refused(request_: Request, message: str) -> None:
    """One clear line says what is missing or wrong."""
    with pytest.raises(WebhookRefused) as refused:
        read(request_)
    assert (refused.value.status, str(refused.value)) == (400, message)
