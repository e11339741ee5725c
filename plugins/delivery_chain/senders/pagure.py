"""Pagure, the forge of Fedora and CentOS.

Signed with HMAC-SHA256 over the body, in hex, keyed with the token that Pagure makes for each repository; only the body
is signed, so nothing else is read. Each request is sent once: `msg_id` names it, and `timestamp` is when it was sent.

A ref that is new, or gone, has a topic of its own; `rev` is an annotated tag's tag object there. One that moved is a
`git.receive`, a tag too, which has its full name in `branch` then. `end_commit` is the new commit. `old_commit` is a
moved tag's tag object, and with a forced push the commit where old and new history meet. A new ref with new commits
makes a `git.receive` beside its creation, whose `old_commit` is git's zeros after a `^`, and whose `branch` may be a
tag's name. Nothing is sent for private repositories, and for pushes that only take commits away.
Source: `hooks/default.py`, `lib/git.py` and `lib/tasks_services.py` of Pagure 5.11.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from delivery_chain.core.names.git_ref import BRANCHES, TAGS
from delivery_chain.errors import WebhookRefused
from delivery_chain.senders.base import Sender, fields, hmac_hex, json_object, notification, text
from delivery_chain.senders.pushes import no_chain, pushed, ref_push, unix_time

if TYPE_CHECKING:
    from datetime import datetime

    from delivery_chain.core.events.notification import Notification
    from delivery_chain.senders.base import Request

MOVED = "git.receive"
CREATED = {"git.branch.creation": BRANCHES, "git.tag.creation": TAGS}
DELETED = {"git.branch.deletion": BRANCHES, "git.tag.deletion": TAGS}
NEW = "^"
"""How `old_commit` begins where a ref is new."""
PING = "Test.notification"


def _authentic(request: Request, secret: str, _now: datetime) -> bool:
    return hmac_hex(request, "x-pagure-signature-256", secret)


def _parse(request: Request) -> Notification:
    payload = json_object(request)
    topic, message_id = text(payload, "topic"), text(payload, "msg_id")
    if not topic or not message_id:
        raise WebhookRefused(400, "the payload has no `topic` or no `msg_id`: it is none of Pagure's")
    message = payload.get("msg")
    known: dict[str, Any] = {
        "event": topic,
        "delivery_id": message_id,
        "actor": text(message, "agent"),
    }
    if (ignored := _ignored(topic, message)) is not None:
        return notification(**known, ignored=ignored)
    push = _moved(message) if topic == MOVED else _made_or_gone(topic, message)
    at = unix_time(payload.get("timestamp"))
    return pushed(repositories=_names(message), pushes=[push], pushed_at=at, **known)


def _ignored(topic: str, message: Any) -> str | None:
    """Why there is nothing to do; None where there is."""
    if topic == MOVED:
        return _not_moved(message)
    if topic in CREATED or topic in DELETED:
        return None
    if topic.startswith("pull-request."):
        return "pull requests start no chain"
    return "a ping: the webhook works" if topic == PING else no_chain(topic)


def _not_moved(message: Any) -> str | None:
    old = text(message, "old_commit")
    if old.startswith(NEW):
        return "the creation of the branch or tag tells the same"
    # Of histories with nothing in common Pagure lists the commits of both, by their dates.
    if old and old == text(message, "end_commit"):
        return "the push does not say where the branch is now; a sensor finds it"
    branch = text(message, "branch")
    if branch.startswith("refs/") and not branch.startswith(TAGS):
        return "neither a branch nor a tag"
    return None


def _made_or_gone(topic: str, message: Any) -> dict[str, Any]:
    prefix = CREATED.get(topic) or DELETED[topic]
    ref = prefix + _name(message, "tag" if prefix == TAGS else "branch")
    rev = fields(message, "rev")
    if topic in CREATED:
        return ref_push(ref, before="", after=rev)
    # A tag object is not where anybody saw the tag: that is its commit.
    return ref_push(ref, before=None if prefix == TAGS else rev, after="")


def _moved(message: Any) -> dict[str, Any]:
    name = _name(message, "branch")
    is_tag = name.startswith(TAGS)
    end = fields(message, "end_commit")
    # Of anything but a branch that was moved on, the old place is not what `old_commit` says.
    known = not is_tag and fields(message, "forced") is False
    before = fields(message, "old_commit") if known else None
    return ref_push(name if is_tag else BRANCHES + name, before=before, after=end, tag_commit=end)


def _name(message: Any, key: str) -> str:
    found = fields(message, key)
    if not isinstance(found, str) or not found:
        raise WebhookRefused(400, f"expected `msg.{key}` to name a {key}, found {str(found)[:100]!r}")
    return found


def _names(message: Any) -> list[Any]:
    instance, path = (text(message, name, longest=900) for name in ("pagure_instance", "repo.url_path"))
    page = f"{instance.rstrip('/')}/{path}" if instance and path else None
    return [fields(message, "project_fullname"), page, fields(message, "repo.fullname")]


PAGURE = Sender(title="Pagure", authentic=_authentic, parse=_parse)
