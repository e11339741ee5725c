"""Shared by the git forges' senders: validates payloads, and normalizes refs, commits and times."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypedDict

from delivery_chain.core.names.git_ref import TAGS
from delivery_chain.errors import WebhookRefused
from delivery_chain.senders.base import commit, fields, notification

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from delivery_chain.core.events.notification import Notification
    from delivery_chain.senders.base import Request

_ID = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_LATEST = 2**33
"""Upper limit of plausible Unix seconds."""


def header(request: Request, name: str) -> str:
    """The value of a header that every request of the sender must have.

    Raises:
        WebhookRefused: 400: it is missing.
    """
    found = request.headers.get(name.lower(), "")
    if not found:
        raise WebhookRefused(400, f"the request has no header {name}")
    return found


class RefPush(TypedDict):
    """Fields of a moved ref, not validated yet."""

    ref: str
    before: object
    after: object
    peeled: bool


def entries(data: object, path: str) -> list[dict[str, object]]:
    """The objects of the list at a path.

    Raises:
        WebhookRefused: 400: not a list of objects.
    """
    found = fields(data, path)
    if not isinstance(found, list):
        raise WebhookRefused(400, f"expected a list at `{path}`, found {type(found).__name__}")
    if not all(isinstance(entry, dict) for entry in found):
        raise WebhookRefused(400, f"expected objects only in the list `{path}`")
    return found


def ref_push(ref: object, *, before: object, after: object, tag_commit: object = None) -> RefPush:
    """Fields of a moved ref, for `Push` to validate.

    Args:
        ref: Full name.
        before: Git's zeros for a new ref; None if the sender does not give it.
        after: Git's zeros for a deleted ref. For an annotated tag most forges give the tag object here.
        tag_commit: The peeled commit of a tag, if the sender gives it; the sensor sees the same. Without it, a tag's
            `after` may be a tag object, and the push is not `peeled`.

    Raises:
        WebhookRefused: 400: not a full ref name.
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


def pushed(
    *, repositories: Sequence[object], pushes: Sequence[Mapping[str, object]], **known: object
) -> Notification:
    """Build the notification of a push.

    Args:
        repositories: The payload's values for the repository's names; those that are not text are dropped.
        pushes: From `ref_push`. Forges send none if a push has too many refs.
        known: The other fields of the `Notification`.

    Raises:
        WebhookRefused: 400: it names no repository, or a field is invalid.
    """
    named = tuple(dict.fromkeys(name for name in repositories if isinstance(name, str) and name))
    if not named:
        raise WebhookRefused(400, "the payload names no repository")
    ignored = "" if pushes else "the push names no ref; a sensor finds what moved"
    return notification(repositories=named, pushes=tuple(pushes), ignored=ignored, **known)


def no_chain(event: str) -> str:
    """Reason to ignore an event that is neither a push nor a ping."""
    return f"{event[:100]!r} events start no chain"


def moment(value: object) -> datetime | None:
    """Parse an ISO 8601 time with a zone; None if malformed."""
    try:
        found = datetime.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        return None
    return found if found.tzinfo else None


def unix_time(value: object) -> datetime | None:
    """Parse whole Unix seconds; None if malformed."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < _LATEST:
        return None
    return datetime.fromtimestamp(value, UTC)
