"""What the git forges share: a push as each of them writes it, and what a payload must have."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from delivery_chain.core.names.git_ref import TAGS
from delivery_chain.errors import WebhookRefused
from delivery_chain.senders.base import commit, fields, notification

if TYPE_CHECKING:
    from collections.abc import Sequence

    from delivery_chain.core.events.notification import Notification
    from delivery_chain.senders.base import Request

_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_LATEST = 2**33
"""Unix seconds; beyond is no time that a forge writes."""


def header(request: Request, name: str) -> str:
    """A header that each request of this sender has.

    Raises:
        WebhookRefused: 400, it has not.
    """
    found = request.headers.get(name.lower(), "")
    if not found:
        raise WebhookRefused(400, f"the request has no header {name}")
    return found


def entries(data: Any, path: str) -> list[dict[str, Any]]:
    """The objects of a list at a path.

    Raises:
        WebhookRefused: 400, there is no list, or something else in it.
    """
    found = fields(data, path)
    if not isinstance(found, list):
        raise WebhookRefused(400, f"expected a list at `{path}`, found {type(found).__name__}")
    if not all(isinstance(entry, dict) for entry in found):
        raise WebhookRefused(400, f"expected objects only in the list `{path}`")
    return found


def ref_push(ref: Any, *, before: Any, after: Any, tag_commit: Any = None) -> dict[str, Any]:
    """One ref that moved, for a `Push` to check.

    Args:
        ref: Full name.
        before: Git's zeros for a new ref; None where the sender does not say.
        after: Git's zeros for one that was deleted. For an annotated tag most forges give the tag object here.
        tag_commit: The commit that a tag leads to, where the sender names it. The sensor sees that one too. Without it
            a tag's `after` may be a tag object, and the push is not `peeled`.

    Raises:
        WebhookRefused: 400, for a ref that is not written in full.
    """
    if not isinstance(ref, str) or not ref.startswith("refs/"):
        raise WebhookRefused(
            400, f"expected a full git ref such as refs/heads/main, found {str(ref)[:100]!r}"
        )
    old, new = (commit(value) if isinstance(value, str) else value for value in (before, after))
    is_id = isinstance(new, str) and _ID.fullmatch(new)
    peeled = not (new and ref.startswith(TAGS))
    if is_id and not peeled and isinstance(tag_commit, str) and tag_commit:
        new, peeled = tag_commit, True
    return {"ref": ref, "before": old, "after": new, "peeled": peeled}


def pushed(*, repositories: Sequence[Any], pushes: Sequence[dict[str, Any]], **known: Any) -> Notification:
    """The notification of a push.

    Args:
        repositories: Whatever the payload has where it should name the repository; what is no text is left out.
        pushes: From `ref_push`. Forges send none when there were too many.
        known: The rest of a `Notification`.

    Raises:
        WebhookRefused: 400, it names no repository, or what it names is wrong.
    """
    named = tuple(dict.fromkeys(name for name in repositories if isinstance(name, str) and name))
    if not named:
        raise WebhookRefused(400, "the payload names no repository")
    ignored = "" if pushes else "the push names no ref; a sensor finds what moved"
    return notification(repositories=named, pushes=tuple(pushes), ignored=ignored, **known)


def no_chain(event: str) -> str:
    """Why nothing is run for an event that is neither a push nor a ping."""
    return f"{event[:100]!r} events start no chain"


def moment(value: Any) -> datetime | None:
    """An ISO 8601 time with its zone, or None."""
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo else None


def unix_time(value: Any) -> datetime | None:
    """A time in whole Unix seconds, or None."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < _LATEST:
        return None
    return datetime.fromtimestamp(value, UTC)
