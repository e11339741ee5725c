"""Azure DevOps: service hooks of Services and Server, event "Code pushed".

Requests are not signed: the proof is the secret, as the password of Basic authentication, in a custom `Authorization`
header, or in the address. The event's `id` is the same for each subscription and attempt. `resource.date` is the time
of the push. For an annotated tag the payload has only the tag object. The subscription must send all resource details.
Source: learn.microsoft.com, "Service hook events".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.errors import WebhookRefused
from delivery_chain.senders.base import Sender, bearer, fields, json_object, notification, text
from delivery_chain.senders.pushes import entries, moment, no_chain, pushed, ref_push

if TYPE_CHECKING:
    from datetime import datetime

    from delivery_chain.core.events.notification import Notification
    from delivery_chain.senders.base import Request


def _authentic(request: Request, secret: str, _now: datetime) -> bool:
    return bearer(request, secret)


def _parse(request: Request) -> Notification:
    payload = json_object(request)
    event, event_id = text(payload, "eventType"), text(payload, "id")
    if not event or not event_id:
        raise WebhookRefused(400, "the payload has no `eventType` or no `id`: not a service hook's payload")
    known: dict[str, object] = {
        "event": event,
        "delivery_id": event_id,
        "hook": text(payload, "subscriptionId"),
        "actor": text(payload, "resource.pushedBy.displayName")
        or text(payload, "resource.pushedBy.uniqueName"),
    }
    if event != "git.push":
        ignored = "pull requests start no chain" if event.startswith("git.pullrequest") else no_chain(event)
        return notification(**known, ignored=ignored)
    if fields(payload, "resource.refUpdates") is None:
        raise WebhookRefused(400, "the push names no refs: let the service hook send all resource details")
    pushes = [
        ref_push(update.get("name"), before=update.get("oldObjectId"), after=update.get("newObjectId"))
        for update in entries(payload, "resource.refUpdates")
    ]
    at = moment(fields(payload, "resource.date"))
    return pushed(repositories=_names(payload), pushes=pushes, pushed_at=at, **known)


def _names(payload: dict[str, object]) -> list[object]:
    repository = fields(payload, "resource.repository")
    project, name = text(repository, "project.name"), text(repository, "name")
    full = f"{project}/{name}" if project and name else None
    return [full, *(fields(repository, key) for key in ("remoteUrl", "sshUrl", "webUrl"))]


AZURE = Sender(title="Azure DevOps", authentic=_authentic, parse=_parse)
