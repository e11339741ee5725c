"""Shared by the registries' senders: validates pushed images, filters those that may start a chain, parses times."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, ValidationError

from delivery_chain.core.events.notification import MOST_PUSHES
from delivery_chain.core.events.push import Push
from delivery_chain.core.names.reference import check_digest, check_name, check_tag
from delivery_chain.core.names.tags import is_reserved
from delivery_chain.core.times import EPOCH, in_utc
from delivery_chain.core.value import Value
from delivery_chain.errors import WebhookRefused
from delivery_chain.senders.base import fields

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BY_DIGEST = "pushed without a tag, like the platforms of an index and an image's referrers"
_REASONS = 3
"""Reasons shown per notification."""


class ImageForm(Value):
    """An image as a payload names it."""

    name: Annotated[str, AfterValidator(check_name)]
    """Repository in the registry, with its namespace: `shop/api`."""
    tag: Annotated[str, AfterValidator(lambda tag: tag and check_tag(tag))] = ""
    digest: Annotated[str, AfterValidator(lambda digest: digest and check_digest(digest))] = ""
    """Empty if the sender does not give it."""

    @property
    def push(self) -> Push:
        """The push of the image."""
        return Push.of_image(name=self.name, tag=self.tag, digest=self.digest)


def wanted(data: object, path: str) -> str:
    """The text at a path.

    Raises:
        WebhookRefused: 400: it is missing or empty.
    """
    found = fields(data, path)
    if not isinstance(found, str) or not found:
        shown = "nothing" if found is None or found == "" else type(found).__name__
        raise WebhookRefused(400, f"expected a text at {path}, found {shown}")
    return found


def entries(data: object, path: str) -> list[dict[str, object]]:
    """The objects of the list at a path.

    Raises:
        WebhookRefused: 400: not a list of objects, or too long.
    """
    found = fields(data, path)
    if not isinstance(found, list) or any(not isinstance(entry, dict) for entry in found):
        raise WebhookRefused(400, f"expected a list of objects at {path}")
    bounded(found, path)
    return found


def bounded(found: Sequence[object], path: str) -> None:
    """Refuse a list longer than any registry sends.

    Raises:
        WebhookRefused: 400.
    """
    if len(found) > MOST_PUSHES:
        raise WebhookRefused(400, f"expected at most {MOST_PUSHES} at {path}, found {len(found)}")


def image(name: object, tag: object, digest: object = "") -> Push:
    """Build the push of an image from a payload's fields.

    Raises:
        WebhookRefused: 400: the name, tag or digest is invalid.
    """
    try:
        return ImageForm(name=name, tag=tag, digest=digest).push
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        raise WebhookRefused(400, f"the payload names no valid image: {wrong['msg'][:400]}") from None


def sift(found: Iterable[Push]) -> tuple[tuple[Push, ...], str]:
    """Keep the images that may start a chain.

    Dropped are manifests without a tag (platforms of an index, attestations and other referrers), the tags of
    signatures and other referrers, and tags reserved by chains.

    Returns:
        The images, in order; and the reason if there are none.
    """
    kept: list[Push] = []
    reasons: list[str] = []
    for push in found:
        if not push.tag:
            reasons.append(BY_DIGEST)
        elif is_reserved(push.tag):
            reasons.append(f"the tag {push.tag} is a referrer's or the chain's own")
        else:
            kept.append(push)
    return tuple(kept), "" if kept else together(reasons) or "it names no image"


def together(reasons: Iterable[str]) -> str:
    """Join the first few distinct reasons into one sentence."""
    different = list(dict.fromkeys(reason for reason in reasons if reason))
    more = f"; and {len(different) - _REASONS} more" if len(different) > _REASONS else ""
    return "; ".join(different[:_REASONS]) + more


def moment(found: object, zone: tzinfo | None = None) -> datetime | None:
    """Parse a sender's time, to UTC; None if missing or malformed.

    Args:
        found: Seconds since 1970, or ISO 8601 text.
        zone: Zone of texts without one; by default they are malformed.
    """
    try:
        if isinstance(found, bool):
            return None
        if isinstance(found, int | float):
            time = datetime.fromtimestamp(found, UTC)
        elif isinstance(found, str):
            time = datetime.fromisoformat(found)
            if time.tzinfo is None:
                if zone is None:
                    return None
                time = time.replace(tzinfo=zone)
            time = in_utc(time)
        else:
            return None
    except (ValueError, OverflowError, OSError):
        return None
    return time if time > EPOCH else None


def event_id(time: datetime | None, *facts: str | bytes) -> str:
    """Derive an id for an event to which its sender gives none.

    Returns:
        Empty without a time: another push of the same tag would get the same id, and must not count as a redelivery.
    """
    if time is None:
        return ""
    known = hashlib.sha256(time.isoformat().encode())
    for fact in facts:
        raw = fact.encode(errors="surrogatepass") if isinstance(fact, str) else fact
        known.update(b"\0%d\0" % len(raw) + raw)
    return f"sha256:{known.hexdigest()}"
