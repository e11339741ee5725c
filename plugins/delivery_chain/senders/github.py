"""GitHub: github.com, Enterprise Cloud and Enterprise Server.

Signed with HMAC-SHA256 over the raw body, also of a form. `X-GitHub-Delivery` is the event's id: redeliveries keep it,
and all webhooks that report the event share it. `repository.pushed_at` is the time of the push. For an annotated tag,
`after` is the tag object and `head_commit.id` the commit. GitHub sends nothing for a push of more than three tags at
once. Source: docs.github.com, "Webhook events and payloads".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gidgethub import ValidationFailure
from gidgethub.sansio import validate_event

from delivery_chain.senders.base import MEBIBYTE, Sender, fields, json_object, notification, text
from delivery_chain.senders.ghcr import pushed_images
from delivery_chain.senders.pushes import header, no_chain, pushed, ref_push, unix_time

if TYPE_CHECKING:
    from datetime import datetime

    from delivery_chain.core.events.notification import Notification
    from delivery_chain.senders.base import Request

PACKAGES = frozenset({"package", "registry_package"})
"""Events about images in GitHub's own registry."""
IGNORED = {
    "ping": "a ping: the webhook works",
    "create": "the push event reports the same",
    "delete": "the push event reports the same",
    "pull_request": "pull requests start no chain",
}


def _authentic(request: Request, secret: str, _now: datetime) -> bool:
    signature = request.headers.get("x-hub-signature-256", "")
    # The library would also accept `sha1=…` here, and fails on non-ASCII text.
    if not signature.startswith("sha256=") or not signature.isascii():
        return False
    try:
        validate_event(request.body, signature=signature, secret=secret)
    except ValidationFailure:
        return False
    return True


def _parse(request: Request) -> Notification:
    event = header(request, "X-GitHub-Event")
    payload = json_object(request)
    known: dict[str, object] = {
        "event": event,
        "delivery_id": header(request, "X-GitHub-Delivery"),
        "hook": request.headers.get("x-github-hook-id", ""),
        "actor": text(payload, "pusher.name") or text(payload, "sender.login"),
    }
    if event == "push":
        return _push(payload, known)
    if event in PACKAGES:
        return _package(payload, known)
    return notification(**known, ignored=IGNORED.get(event) or no_chain(event))


def _push(payload: dict[str, object], known: dict[str, object]) -> Notification:
    repository = fields(payload, "repository")
    push = ref_push(
        payload.get("ref"),
        before=payload.get("before"),
        after=payload.get("after"),
        tag_commit=fields(payload, "head_commit.id"),
    )
    names = [fields(repository, key) for key in ("full_name", "clone_url", "ssh_url", "git_url", "html_url")]
    at = unix_time(fields(repository, "pushed_at"))
    return pushed(repositories=names, pushes=[push], pushed_at=at, **known)


def _package(payload: dict[str, object], known: dict[str, object]) -> Notification:
    images, ignored = pushed_images(payload)
    return notification(**known, pushes=images, ignored=ignored)


GITHUB = Sender(title="GitHub", authentic=_authentic, parse=_parse, largest=25 * MEBIBYTE, proves_id=False)
"""GitHub's own limit: larger payloads are not sent."""
