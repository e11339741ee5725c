"""GitLab: gitlab.com and self-managed; webhooks of projects and groups, and system hooks.

The proof is the plain secret token in `X-Gitlab-Token`, or a signature with the signing token (`whsec_…`) by the
Standard Webhooks specification; neither side shows which of the two is set, so both are tried.
`Idempotency-Key`, and `webhook-id` with the same value, are stable across retries; `X-Gitlab-Event-UUID`, of older
versions, is not. For an annotated tag, `after` is the tag object and `checkout_sha` the commit. GitLab sends nothing
for a push of more than three branches or tags at once (`push_event_hooks_limit`), and gives no time.
Source: GitLab's `app/services/web_hook_service.rb` and `lib/gitlab/data_builder/push.rb`; its merge request 230944.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from delivery_chain.errors import WebhookRefused
from delivery_chain.senders.base import MEBIBYTE, Sender, fields, json_object, notification, same, text
from delivery_chain.senders.pushes import no_chain, pushed, ref_push
from delivery_chain.senders.signed import standard_signature

if TYPE_CHECKING:
    from datetime import datetime

    from delivery_chain.core.events.notification import Notification
    from delivery_chain.senders.base import Request

IGNORED = {
    "merge_request": "merge requests start no chain",
    "note": "comments start no chain",
    "repository_update": "the push event reports the same",
}
# The signed id first: a replayed request can't have another one.
_IDS = ("webhook-id", "idempotency-key", "x-gitlab-event-uuid")


def _authentic(request: Request, secret: str, now: datetime) -> bool:
    token = same(request.headers.get("x-gitlab-token", ""), secret)
    return standard_signature(request, secret, now) or token


def _parse(request: Request) -> Notification:
    payload = json_object(request)
    # System hooks have only `event_name` for events that are not about a repository's content.
    kind = text(payload, "object_kind") or text(payload, "event_name")
    event = request.headers.get("x-gitlab-event", "") or kind
    if not event:
        raise WebhookRefused(400, "the request names no event: no X-Gitlab-Event, no `object_kind`")
    known: dict[str, object] = {
        "event": event,
        "delivery_id": _delivery_id(request),
        "hook": request.headers.get("x-gitlab-webhook-uuid", ""),
        "actor": text(payload, "user_username") or text(payload, "user_name"),
    }
    if kind in {"push", "tag_push"}:
        return _push(payload, known)
    return notification(**known, ignored=IGNORED.get(kind) or no_chain(kind or event))


def _push(payload: dict[str, object], known: dict[str, object]) -> Notification:
    project = fields(payload, "project")
    names = ("path_with_namespace", "git_http_url", "git_ssh_url", "web_url", "http_url", "ssh_url")
    push = ref_push(
        payload.get("ref"),
        before=payload.get("before"),
        after=payload.get("after"),
        tag_commit=payload.get("checkout_sha"),
    )
    return pushed(repositories=[fields(project, name) for name in names], pushes=[push], **known)


def _delivery_id(request: Request) -> str:
    """The request's id; for GitLab before 14.7, which sends none, a digest of the body."""
    found = next((request.headers[name] for name in _IDS if request.headers.get(name)), "")
    return found or hashlib.sha256(request.body).hexdigest()


GITLAB = Sender(title="GitLab", authentic=_authentic, parse=_parse, largest=25 * MEBIBYTE)
"""GitLab's own limit (`REQUEST_BODY_SIZE_LIMIT`)."""
