"""Harbor: the webhooks of a project, in both of its payload formats.

A webhook's "auth header" is sent verbatim as `Authorization`. Harbor stores the body and sends the same bytes up to
three times until it is answered by 2xx. "Test Endpoint" sends no such header.

Source: goharbor/harbor src/pkg/notifier/formats/{default,cloudevents}.go,
src/controller/event/handler/webhook/artifact/artifact.go, src/jobservice/job/impl/notification/webhook_job.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.senders.base import Sender, bearer, fields, json_object, notification, text
from delivery_chain.senders.images import entries, event_id, image, moment, sift, wanted

if TYPE_CHECKING:
    from datetime import datetime

    from delivery_chain.core.events.notification import Notification
    from delivery_chain.core.events.push import Push
    from delivery_chain.senders.base import Request

PUSHED = frozenset({"PUSH_ARTIFACT", "harbor.artifact.pushed"})
OTHERS = {
    "PULL_ARTIFACT": "a pull",
    "DELETE_ARTIFACT": "a deletion",
    "REPLICATION": "a replication's own report; each image that it copies is reported as a push",
    "SCANNING_COMPLETED": "the end of a scan; the chain runs its own scan",
    "SCANNING_FAILED": "the end of a scan; the chain runs its own scan",
    "SCANNING_STOPPED": "the end of a scan; the chain runs its own scan",
    "QUOTA_EXCEED": "a warning about a quota",
    "QUOTA_WARNING": "a warning about a quota",
    "TAG_RETENTION": "a deletion by the project's retention rules",
    "UPLOAD_CHART": "a chart",
    "DOWNLOAD_CHART": "a chart",
    "DELETE_CHART": "a chart",
}
IN_CLOUD_EVENTS = {
    "harbor.artifact.pulled": "PULL_ARTIFACT",
    "harbor.artifact.deleted": "DELETE_ARTIFACT",
    "harbor.replication.status.changed": "REPLICATION",
    "harbor.scan.completed": "SCANNING_COMPLETED",
    "harbor.scan.failed": "SCANNING_FAILED",
    "harbor.scan.stopped": "SCANNING_STOPPED",
    "harbor.quota.exceeded": "QUOTA_EXCEED",
    "harbor.quota.warned": "QUOTA_WARNING",
    "harbor.tag_retention.finished": "TAG_RETENTION",
}


def _authentic(request: Request, secret: str, _now: datetime) -> bool:
    return bearer(request, secret)


def _parse(request: Request) -> Notification:
    payload = json_object(request)
    kind = wanted(payload, "type")
    if "specversion" in payload:
        time = moment(payload.get("time"))
        data, unique, hook = payload.get("data"), wanted(payload, "id"), text(payload, "source")
    else:
        time = moment(payload.get("occur_at"))
        data, unique, hook = payload.get("event_data"), event_id(time, request.body), ""
    images, why = sift(_images(data)) if kind in PUSHED else ((), _other(kind))
    return notification(
        event=kind,
        delivery_id=unique,
        hook=hook,
        pushes=images,
        actor=text(payload, "operator"),
        pushed_at=time if images else None,
        ignored=why,
    )


def _other(kind: str) -> str:
    return OTHERS.get(IN_CLOUD_EVENTS.get(kind, kind), f"{kind[:60]!r} is not a push")


def _images(data: object) -> list[Push]:
    name = text(data, "repository.repo_full_name", longest=1000)
    if not name:
        name = f"{wanted(data, 'repository.namespace')}/{wanted(data, 'repository.name')}"
    return [_image(name, resource) for resource in entries(data, "resources")]


def _image(name: str, resource: dict[str, object]) -> Push:
    digest, tag = wanted(resource, "digest"), fields(resource, "tag")
    # For an image pushed by digest, Harbor gives the digest as the tag.
    return image(name, "" if tag is None or tag == digest else tag, digest)


HARBOR = Sender(title="Harbor", authentic=_authentic, parse=_parse)
