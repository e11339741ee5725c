"""Quay: the notification "Push to Repository" by webhook.

Quay signs nothing and sets no header: the secret is in the address. The payload has no actor, time, digest or id: two
pushes of one tag send the same bytes, and so does a redelivery. So `delivery_id` is empty, and only the tag's current
digest shows whether the push is new.

Source: quay/quay notifications/{__init__,notificationevent,notificationmethod}.py, endpoints/v2/manifest.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.errors import WebhookRefused
from delivery_chain.senders.base import Sender, bearer, json_object, notification, text
from delivery_chain.senders.images import bounded, image, sift, wanted

if TYPE_CHECKING:
    from datetime import datetime

    from delivery_chain.core.events.notification import Notification
    from delivery_chain.senders.base import Request

TEST = {"updated_tags": ["latest", "foo"], "pruned_image_count": 3}
"""What "Test Notification" sends. No other notification of a current Quay has `pruned_image_count`."""


def _authentic(request: Request, secret: str, _now: datetime) -> bool:
    return bearer(request, secret)


def _parse(request: Request) -> Notification:
    payload = json_object(request)
    name = text(payload, "repository", longest=1000)
    if not name:
        name = f"{wanted(payload, 'namespace')}/{wanted(payload, 'name')}"
    if "updated_tags" not in payload:
        return notification(event="notification", delivery_id="", ignored=_other(payload))
    if {key: payload.get(key) for key in TEST} == TEST:
        return notification(event="repo_push", delivery_id="", ignored="a test notification")
    tags = payload["updated_tags"]
    # Old versions send an object that maps each tag to an image id.
    if not isinstance(tags, list | dict) or not all(tags):
        raise WebhookRefused(400, "expected a list of tags at updated_tags")
    bounded(list(tags), "updated_tags")
    images, why = sift(image(name, tag) for tag in tags)
    return notification(
        event="repo_push", delivery_id="", pushes=images, ignored=why if tags else "no tag was updated"
    )


def _other(payload: dict[str, object]) -> str:
    """Reason to ignore a notification that is not a push; Quay does not name its kind."""
    if "build_id" in payload:
        return "a build's state; its image is reported as a push"
    if "vulnerability" in payload or "vulnerabilities" in payload:
        return "a scan's result; the chain runs its own scan"
    return "not a push: it updates no tag"


QUAY = Sender(title="Quay", authentic=_authentic, parse=_parse)
