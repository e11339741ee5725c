"""CNCF distribution: the notifications of `docker-registry`, and of registries based on it.

The administrator configures the `headers` of an endpoint: `Authorization: [Bearer …]`. The registry queues events in
memory and retries each until it is answered by 2xx or 3xx, strictly in order: a refused event blocks all later ones.

Source: distribution, docs/content/about/notifications.md and notifications/bridge.go; docker-registry 2.8.2 as run.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from delivery_chain.errors import WebhookRefused
from delivery_chain.senders.base import Sender, bearer, fields, json_object, notification, text
from delivery_chain.senders.images import entries, image, moment, sift, together, wanted

if TYPE_CHECKING:
    from datetime import datetime

    from delivery_chain.core.events.notification import Notification
    from delivery_chain.core.events.push import Push
    from delivery_chain.senders.base import Request

INDEXES = frozenset(
    {
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    }
)
MANIFESTS = frozenset(
    {
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    }
)
CONFIGS = frozenset(
    {"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"}
)
OTHER_ACTIONS = {
    "pull": "a pull",
    "mount": "a layer mounted from another repository",
    "delete": "a deletion",
}


def _authentic(request: Request, secret: str, _now: datetime) -> bool:
    return bearer(request, secret)


def _parse(request: Request) -> Notification:
    events = entries(json_object(request), "events")
    if not events:
        raise WebhookRefused(400, "expected one event or more at events, found none")
    reasons = [_other(event) for event in events]
    pushes = [event for event, reason in zip(events, reasons, strict=True) if not reason]
    images, why = sift(map(_image, pushes))
    actors = {text(event, "actor.name") for event in pushes or events}
    times = [time for event in pushes if (time := moment(event.get("timestamp")))]
    return notification(
        event=", ".join(sorted({wanted(event, "action") for event in events}))[:200],
        delivery_id=_delivery_id(events),
        pushes=images,
        actor=actors.pop() if len(actors) == 1 else "",
        pushed_at=max(times, default=None) if images else None,
        ignored="" if images else together([*reasons, why if pushes else ""]),
    )


def _other(event: dict[str, object]) -> str:
    """Reason to ignore an event that is not the push of an image's manifest; empty if it is one."""
    action = wanted(event, "action")
    if action != "push":
        return OTHER_ACTIONS.get(action, f"{action[:40]!r} is not a push")
    kind = text(event, "target.mediaType")
    if kind in INDEXES:
        return ""
    if kind not in MANIFESTS:
        return "a layer or another blob" if "manifest" not in kind else f"a manifest of the kind {kind}"
    return _other_artifact(event)


def _other_artifact(event: dict[str, object]) -> str:
    """Reason to ignore a manifest that is not an image's; known only if the registry sets `includereferences`."""
    references = fields(event, "target.references")
    if not isinstance(references, list) or not references:
        return ""
    kinds = [kind for reference in references if (kind := text(reference, "mediaType"))]
    # A config blob that was stored without its type is reported as application/octet-stream.
    if not kinds or kinds[0] in CONFIGS or kinds[0] == "application/octet-stream":
        return ""
    return f"an artifact other than an image: {kinds[0]}"


def _image(event: dict[str, object]) -> Push:
    tag = fields(event, "target.tag")
    return image(
        wanted(event, "target.repository"), "" if tag is None else tag, wanted(event, "target.digest")
    )


def _delivery_id(events: list[dict[str, object]]) -> str:
    """The event's own id, or a digest over the ids of several events. Retries keep them."""
    ids = [wanted(event, "id") for event in events]
    if len(ids) == 1:
        return ids[0]
    return f"sha256:{hashlib.sha256(repr(ids).encode()).hexdigest()}"


DISTRIBUTION = Sender(title="CNCF distribution (docker-registry)", authentic=_authentic, parse=_parse)
