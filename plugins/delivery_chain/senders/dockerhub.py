"""Docker Hub: the webhook of a repository.

Docker Hub signs nothing and sets no header: the secret is in the address. The payload has no digest and no id, but a
time in seconds. `callback_url` is not trustworthy, and obsolete: it is never called.

Source: docker/docs content/manuals/docker-hub/repos/manage/webhooks.md; docker/roadmap issue 440 (no digest).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.senders.base import Sender, bearer, fields, json_object, notification, text
from delivery_chain.senders.images import event_id, image, moment, sift, wanted

if TYPE_CHECKING:
    from datetime import datetime

    from delivery_chain.core.events.notification import Notification
    from delivery_chain.senders.base import Request


def _authentic(request: Request, secret: str, _now: datetime) -> bool:
    return bearer(request, secret)


def _parse(request: Request) -> Notification:
    payload = json_object(request)
    push = image(wanted(payload, "repository.repo_name"), wanted(payload, "push_data.tag"))
    time, actor = moment(fields(payload, "push_data.pushed_at")), text(payload, "push_data.pusher")
    images, why = sift([push])
    return notification(
        event="push",
        # From the facts, not the bytes, which contain counters of stars and comments.
        delivery_id=event_id(time, push.name, push.tag, actor),
        pushes=images,
        actor=actor,
        pushed_at=time if images else None,
        ignored=why,
    )


DOCKERHUB = Sender(title="Docker Hub", authentic=_authentic, parse=_parse)
