"""Pagure, the forge of Fedora and CentOS.

Signed with HMAC-SHA256 over the body, in hex, with the token that Pagure generates for each repository; only the body
is signed, so nothing else is read. Each request is sent once, with a unique `msg_id` and its time as `timestamp`.

A created or deleted ref has a topic of its own, with the tag object of an annotated tag as `rev`. A moved ref is a
`git.receive`; for a moved tag, `branch` has its full name. `end_commit` is the new commit. `old_commit` is a moved
tag's tag object, and after a forced push the merge base of old and new history. A new ref with new commits sends a
`git.receive` beside its creation, with git's zeros after a `^` as `old_commit`, and perhaps a tag's name as `branch`.
Nothing is sent for private repositories, or for pushes that only remove commits.
Source: `hooks/default.py`, `lib/git.py` and `lib/tasks_services.py` of Pagure 5.11.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.core.names.git_ref import BRANCHES, TAGS
from delivery_chain.errors import WebhookRefused
from delivery_chain.senders.base import Sender, fields, hmac_hex, json_object, notification, text
from delivery_chain.senders.pushes import no_chain, pushed, ref_push, unix_time

if TYPE_CHECKING:
    from datetime import datetime

    from delivery_chain.core.events.notification import Notification
    from delivery_chain.senders.base import Request
    from delivery_chain.senders.pushes import RefPush

MOVED = "git.receive"
CREATED = {"git.branch.creation": BRANCHES, "git.tag.creation": TAGS}
DELETED = {"git.branch.deletion": BRANCHES, "git.tag.deletion": TAGS}
NEW = "^"
"""Prefix of `old_commit` for a new ref."""
PING = "Test.notification"


def _authentic(request: Request, secret: str, _now: datetime) -> bool:
    return hmac_hex(request, "x-pagure-signature-256", secret)


def _parse(request: Request) -> Notification:
    payload = json_object(request)
    topic, message_id = text(payload, "topic"), text(payload, "msg_id")
    if not topic or not message_id:
        raise WebhookRefused(400, "the payload has no `topic` or no `msg_id`: not a Pagure payload")
    message = payload.get("msg")
    known: dict[str, object] = {
        "event": topic,
        "delivery_id": message_id,
        "actor": text(message, "agent"),
    }
    if (ignored := _ignored(topic, message)) is not None:
        return notification(**known, ignored=ignored)
    push = _moved(message) if topic == MOVED else _created_or_deleted(topic, message)
    at = unix_time(payload.get("timestamp"))
    return pushed(repositories=_names(message), pushes=[push], pushed_at=at, **known)


def _ignored(topic: str, message: object) -> str | None:
    """Reason to ignore an event; None for a push."""
    if topic == MOVED:
        return _not_moved(message)
    if topic in CREATED or topic in DELETED:
        return None
    if topic.startswith("pull-request."):
        return "pull requests start no chain"
    return "a ping: the webhook works" if topic == PING else no_chain(topic)


def _not_moved(message: object) -> str | None:
    old = text(message, "old_commit")
    if old.startswith(NEW):
        return "the creation of the branch or tag reports the same"
    # For unrelated histories, Pagure lists the commits of both by date.
    if old and old == text(message, "end_commit"):
        return "the push does not say where the branch is now; a sensor finds it"
    branch = text(message, "branch")
    if branch.startswith("refs/") and not branch.startswith(TAGS):
        return "neither a branch nor a tag"
    return None


def _created_or_deleted(topic: str, message: object) -> RefPush:
    prefix = CREATED.get(topic) or DELETED[topic]
    ref = prefix + _name(message, "tag" if prefix == TAGS else "branch")
    rev = fields(message, "rev")
    if topic in CREATED:
        return ref_push(ref, before="", after=rev)
    # `rev` is the tag object, but the tag's history has its commits.
    return ref_push(ref, before=None if prefix == TAGS else rev, after="")


def _moved(message: object) -> RefPush:
    name = _name(message, "branch")
    is_tag = name.startswith(TAGS)
    end = fields(message, "end_commit")
    # Only for a fast-forwarded branch is `old_commit` the commit where it was.
    known = not is_tag and fields(message, "forced") is False
    before = fields(message, "old_commit") if known else None
    return ref_push(name if is_tag else BRANCHES + name, before=before, after=end, tag_commit=end)


def _name(message: object, key: str) -> str:
    found = fields(message, key)
    if not isinstance(found, str) or not found:
        raise WebhookRefused(400, f"expected `msg.{key}` to name a {key}, found {str(found)[:100]!r}")
    return found


def _names(message: object) -> list[object]:
    instance, path = (text(message, name, longest=900) for name in ("pagure_instance", "repo.url_path"))
    page = f"{instance.rstrip('/')}/{path}" if instance and path else None
    return [fields(message, "project_fullname"), page, fields(message, "repo.fullname")]


PAGURE = Sender(title="Pagure", authentic=_authentic, parse=_parse)
