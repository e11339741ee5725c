"""Bitbucket Cloud and Bitbucket Data Center, which share a signature (HMAC-SHA256 over the body) and little else.

Cloud: retries of a request are numbered in `X-Attempt-Number` and seem to keep their `X-Request-UUID`, though Atlassian
does not document it. A tag's `target` is its commit. The payload has no clone URL: it identifies the repository by full
name and web page. It has no time. Cloud sends nothing if the payload would exceed 256 KB.

Data Center: `X-Request-Id` is unique per request. `date` is the time of the event. For an annotated tag `toHash` is the
tag object; versions that also send `toCommit` give the commit there.
Source: support.atlassian.com and confluence.atlassian.com, "Event payloads".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.core.names.git_ref import BRANCHES, REF_BYTES, TAGS
from delivery_chain.errors import WebhookRefused
from delivery_chain.senders.base import Sender, fields, hmac_hex, json_object, notification, text
from delivery_chain.senders.pushes import entries, header, moment, no_chain, pushed, ref_push

if TYPE_CHECKING:
    from datetime import datetime

    from delivery_chain.core.events.notification import Notification
    from delivery_chain.senders.base import Request
    from delivery_chain.senders.pushes import RefPush

_PREFIXES = {"branch": BRANCHES, "tag": TAGS, "annotated_tag": TAGS}
GONE = "0" * 40


def _authentic(request: Request, secret: str, _now: datetime) -> bool:
    return hmac_hex(request, "x-hub-signature", secret, prefix="sha256=")


def _parse_cloud(request: Request) -> Notification:
    event = header(request, "X-Event-Key")
    payload = json_object(request)
    known: dict[str, object] = {
        "event": event,
        "delivery_id": header(request, "X-Request-UUID"),
        "hook": request.headers.get("x-hook-uuid", ""),
        "actor": text(payload, "actor.nickname") or text(payload, "actor.display_name"),
    }
    if event != "repo:push":
        return notification(**known, ignored=_ignored(event))
    names = [fields(payload, path) for path in ("repository.full_name", "repository.links.html.href")]
    pushes = [_change(change) for change in entries(payload, "push.changes")]
    return pushed(repositories=names, pushes=pushes, **known)


def _change(change: dict[str, object]) -> RefPush:
    """Convert a change of a push: `old` is null for a new ref, `new` for a deleted one."""
    old, new = change.get("old"), change.get("new")
    ref = new or old
    prefix = _PREFIXES.get(text(ref, "type"))
    if prefix is None or not text(ref, "name"):
        raise WebhookRefused(400, "expected each change of the push to name a branch or a tag")
    commit = fields(new, "target.hash")
    return ref_push(
        prefix + text(ref, "name", longest=REF_BYTES),
        before=GONE if old is None else fields(old, "target.hash"),
        after=GONE if new is None else commit,
        tag_commit=commit,
    )


def _parse_data_center(request: Request) -> Notification:
    event = header(request, "X-Event-Key")
    payload = json_object(request)
    known: dict[str, object] = {
        "event": event,
        "delivery_id": header(request, "X-Request-Id"),
        "actor": text(payload, "actor.name") or text(payload, "actor.displayName"),
    }
    if event != "repo:refs_changed":
        return notification(**known, ignored=_ignored(event))
    changes = entries(payload, "changes")
    # With several changes, the payload does not tell which of them the commit belongs to.
    tag_commit = fields(payload, "toCommit.id") if len(changes) == 1 else None
    pushes = [
        ref_push(
            fields(change, "ref.id") or change.get("refId"),
            before=change.get("fromHash"),
            after=change.get("toHash"),
            tag_commit=tag_commit,
        )
        for change in changes
    ]
    at = moment(payload.get("date"))
    return pushed(repositories=_data_center_names(payload), pushes=pushes, pushed_at=at, **known)


def _data_center_names(payload: dict[str, object]) -> list[object]:
    repository = fields(payload, "repository")
    key, slug = text(repository, "project.key"), text(repository, "slug")
    found: list[object] = [f"{key}/{slug}" if key and slug else None]
    for kind in ("clone", "self"):
        links = fields(repository, f"links.{kind}")
        # Old versions send no links at all.
        found += [fields(link, "href") for link in links] if isinstance(links, list) else []
    return found


def _ignored(event: str) -> str:
    if event == "diagnostics:ping":
        return "a ping: the webhook works"
    return "pull requests start no chain" if event.startswith(("pullrequest:", "pr:")) else no_chain(event)


BITBUCKET = Sender(title="Bitbucket Cloud", authentic=_authentic, parse=_parse_cloud, proves_id=False)
BITBUCKET_DC = Sender(
    title="Bitbucket Data Center", authentic=_authentic, parse=_parse_data_center, proves_id=False
)
