"""Alibaba Cloud Container Registry: a repository's trigger, and its events through EventBridge.

A trigger can set no header, so the secret is in its URL. EventBridge's HTTP targets can also authenticate by a header.

Source: https://www.alibabacloud.com/help/en/acr/user-guide/manage-webhooks (the trigger's body; its times have no
zone, and are read as UTC+8), argocd-image-updater pkg/webhook/aliyun_acr.go, and
https://www.alibabacloud.com/help/en/eventbridge/user-guide/container-registry-events, which shows BuildCompleted
only; we assume that PushCompleted names its image by the same keys.
"""

from __future__ import annotations

from datetime import timedelta, timezone
from typing import TYPE_CHECKING

from delivery_chain.senders.base import Sender, bearer, fields, json_object, notification, text
from delivery_chain.senders.images import event_id, image, moment, sift, wanted

if TYPE_CHECKING:
    from datetime import datetime

    from delivery_chain.core.events.notification import Notification
    from delivery_chain.core.events.push import Push
    from delivery_chain.senders.base import Request

CHINA = timezone(timedelta(hours=8))
PUSHED, BUILT = "cr:Artifact:PushCompleted", "cr:Artifact:BuildCompleted"
OTHERS = {
    "cr:Artifact:DeliveryChainCompleted": "the end of a chain of ACR itself",
    "cr:Artifact:ScanCompleted": "the end of a scan; the chain runs its own scan",
    "cr:Artifact:SigningCompleted": "a signature",
    "cr:Artifact:SynchronizationCompleted": "a synchronization's own report",
}


def _authentic(request: Request, secret: str, _now: datetime) -> bool:
    return bearer(request, secret)


def _parse(request: Request) -> Notification:
    payload = json_object(request)
    return _event(payload) if "specversion" in payload else _trigger(payload)


def _trigger(payload: dict[str, object]) -> Notification:
    name = text(payload, "repository.repo_full_name", longest=1000)
    if not name:
        name = f"{wanted(payload, 'repository.namespace')}/{wanted(payload, 'repository.name')}"
    push = image(name, wanted(payload, "push_data.tag"), _digest(payload, "push_data.digest"))
    time = moment(fields(payload, "push_data.pushed_at"), CHINA)
    images, why = sift([push])
    return notification(
        event="push",
        delivery_id=event_id(time, text(payload, "repository.region"), push.name, push.tag, push.after),
        pushes=images,
        pushed_at=time if images else None,
        ignored=why,
    )


def _event(payload: dict[str, object]) -> Notification:
    kind, data = wanted(payload, "type"), payload.get("data")
    images: tuple[Push, ...] = ()
    if kind == BUILT and text(data, "BuildStatus") != "SUCCESS":
        why = "a build without an image"
    elif kind in {PUSHED, BUILT}:
        name = f"{wanted(data, 'RepoNamespaceName')}/{wanted(data, 'RepoName')}"
        images, why = sift([image(name, wanted(data, "Tag"), _digest(data, "Digest"))])
    else:
        why = OTHERS.get(kind, f"{kind[:60]!r} is not a push")
    return notification(
        event=kind,
        delivery_id=wanted(payload, "id"),
        pushes=images,
        pushed_at=moment(payload.get("time")) if images else None,
        ignored=why,
    )


def _digest(data: object, path: str) -> object:
    """The value at a path, for `image` to validate; empty if missing."""
    found = fields(data, path)
    return "" if found is None else found


ACR = Sender(title="Alibaba Cloud Container Registry", authentic=_authentic, parse=_parse)
