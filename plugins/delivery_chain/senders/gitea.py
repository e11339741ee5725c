"""Gitea, Forgejo and Gogs, which share a webhook format.

Signed with HMAC-SHA256 over the JSON. JSON inside a form is refused: the signature does not cover the bytes sent, and
recovering the signed bytes would cost more than checking them. A redelivery has the same JSON under a new UUID, so the
digest of the JSON is the delivery id. None of the three gives the time of the push.

Gitea and Forgejo send a `push` for each ref, with `head_commit.id` as the commit of an annotated tag. For a moved tag
they give zeros in `before`, as for a new one, so a tag's `before` counts as unknown. Gogs sends a `push` for branches
only: new and deleted tags, and deleted branches, arrive as `create` and `delete`, and for an annotated tag it gives
only the tag object. Source: Gitea's `services/webhook/deliver.go`, `services/repository/push.go` and
`models/webhook/hooktask.go`; Gogs's `internal/database/actions.go`.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from delivery_chain.core.names.git_ref import BRANCHES, REF_BYTES, TAGS
from delivery_chain.errors import WebhookRefused
from delivery_chain.senders.base import Sender, fields, json_object, notification, same, text
from delivery_chain.senders.pushes import no_chain, pushed, ref_push

if TYPE_CHECKING:
    from datetime import datetime

    from delivery_chain.core.events.notification import Notification
    from delivery_chain.senders.base import Request

KINDS = ("forgejo", "gitea", "gogs")
"""Forgejo also sends the headers of the other two, and Gitea those of Gogs."""
IGNORED = {
    "create": "the push event reports the same",
    "delete": "the push event reports the same",
    "pull_request": "pull requests start no chain",
}
_PREFIXES = {"branch": BRANCHES, "tag": TAGS}


def _authentic(request: Request, secret: str, _now: datetime) -> bool:
    expected = hmac.new(secret.encode(), request.body, hashlib.sha256).hexdigest()
    # All are compared, so that timing reveals nothing.
    return True in [same(request.headers.get(f"x-{kind}-signature", ""), expected) for kind in KINDS]


def _parse(request: Request) -> Notification:
    said = {kind: request.headers.get(f"x-{kind}-event", "") for kind in KINDS}
    event = next(filter(None, said.values()), "")
    if not event:
        raise WebhookRefused(400, "the request has no header X-Gitea-Event, X-Forgejo-Event or X-Gogs-Event")
    payload = json_object(request)
    known: dict[str, object] = {
        "event": event,
        "delivery_id": hashlib.sha256(request.body).hexdigest(),
        "actor": _actor(payload),
    }
    if event == "push":
        return _push(payload, known)
    gogs = not (said["gitea"] or said["forgejo"])
    if gogs and event == "delete":
        return _deleted(payload, known)
    if gogs and event == "create" and payload.get("ref_type") == "tag":
        return _created_tag(payload, known)
    return notification(**known, ignored=IGNORED.get(event) or no_chain(event))


def _push(payload: dict[str, object], known: dict[str, object]) -> Notification:
    ref, before, after = (payload.get(name) for name in ("ref", "before", "after"))
    if before == after:
        return notification(**known, ignored="a test: no ref moved")
    push = ref_push(ref, before=before, after=after, tag_commit=fields(payload, "head_commit.id"))
    if push["ref"].startswith(TAGS) and not push["before"]:
        push["before"] = None
    return pushed(repositories=_names(payload), pushes=[push], **known)


def _created_tag(payload: dict[str, object], known: dict[str, object]) -> Notification:
    if not payload.get("sha"):
        return notification(**known, ignored="this version of Gogs names no commit; a sensor finds the tag")
    push = ref_push(_full(payload), before=None, after=payload["sha"])
    return pushed(repositories=_names(payload), pushes=[push], **known)


def _deleted(payload: dict[str, object], known: dict[str, object]) -> Notification:
    push = ref_push(_full(payload), before=None, after="")
    return pushed(repositories=_names(payload), pushes=[push], **known)


def _full(payload: dict[str, object]) -> str:
    """The full name of a ref from its kind and short name.

    Raises:
        WebhookRefused: 400, for another kind.
    """
    prefix = _PREFIXES.get(text(payload, "ref_type"))
    if prefix is None:
        raise WebhookRefused(400, "expected `ref_type` to be branch or tag")
    return prefix + text(payload, "ref", longest=REF_BYTES)


def _names(payload: dict[str, object]) -> list[object]:
    repository = fields(payload, "repository")
    return [fields(repository, name) for name in ("full_name", "clone_url", "ssh_url", "html_url")]


def _actor(payload: dict[str, object]) -> str:
    paths = ("pusher.login", "pusher.username", "sender.login", "sender.username")
    return next(filter(None, (text(payload, path) for path in paths)), "")


GITEA = Sender(title="Gitea", authentic=_authentic, parse=_parse)
FORGEJO = Sender(title="Forgejo", authentic=_authentic, parse=_parse)
GOGS = Sender(title="Gogs", authentic=_authentic, parse=_parse)
