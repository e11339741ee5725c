"""Compose the image tags of a push, and the names reserved for the chain."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from delivery_chain.core.names.reference import check_tag
from delivery_chain.core.spec.model import BuildTime, TagRule
from delivery_chain.core.spec.types import PLACEHOLDER, QUARANTINE_SUFFIX
from delivery_chain.errors import EventRefused, InvalidReference

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

STAGING_PREFIX = "_staging-"
"""Tags of a run's image until the gate has passed it."""
RESERVED = re.compile(r"_staging-.*|sha(?:256|512)-[0-9a-f]+(?:\..*)?")
"""Tags that no rule may produce: staging tags, and the fallback tags of referrers (OCI distribution spec 1.1)."""
_TIME_FORMAT = {BuildTime.DATE: "%Y%m%d", BuildTime.MINUTE: "%Y%m%d%H%M"}


def compose_tag(
    rule: TagRule, *, captured: Mapping[str, str], pushed_at: datetime, timezone: str, commit: str
) -> str:
    """Compose the tag `<tag>-<time>-<commit>`, for example `v1-202010151625-d4ef3d`.

    Raises:
        EventRefused: The result is not a valid tag; it is never changed silently.

    Source: ACR EE's documentation of build rules.
    """
    tag = PLACEHOLDER.sub(lambda found: captured[found[1]], rule.tag)
    if rule.build_time:
        tag += pushed_at.astimezone(ZoneInfo(timezone)).strftime(f"-{_TIME_FORMAT[rule.build_time]}")
    if rule.commit_id:
        tag += f"-{commit[: rule.commit_id]}"
    try:
        check_tag(tag)
    except InvalidReference as error:
        raise EventRefused(f"the tag rule {rule.tag!r} produces an invalid tag: {error}") from error
    if is_reserved(tag):
        raise EventRefused(
            f"the tag rule {rule.tag!r} produces {tag!r}, which is a name reserved for the chain"
        )
    return tag


def any_time(rule: TagRule, *, captured: Mapping[str, str], commit: str) -> re.Pattern[str]:
    """Regular expression for the whole tags that a rule with a build time produces, at any time."""
    tag = re.escape(PLACEHOLDER.sub(lambda found: captured[found[1]], rule.tag))
    digits = 8 if rule.build_time is BuildTime.DATE else 12
    end = re.escape(f"-{commit[: rule.commit_id]}") if rule.commit_id else ""
    return re.compile(rf"{tag}-[0-9]{{{digits}}}{end}")


def is_reserved(tag: str) -> bool:
    """Whether a tag is reserved for the chain or for referrers."""
    return RESERVED.fullmatch(tag) is not None


def run_key(chain: str, run_id: str) -> str:
    """12 hex digits that identify one run."""
    return hashlib.sha256(f"{chain}\0{run_id}".encode()).hexdigest()[:12]


def staging_tag(key: str, part: str = "") -> str:
    """Staging tag of a run, or of one of its platforms: `_staging-0123456789ab-linux-amd64`."""
    return f"{STAGING_PREFIX}{key}-{part}" if part else f"{STAGING_PREFIX}{key}"


def quarantine_name(namespace: str, repository: str) -> str:
    """Repository for the backup of a blocked image: `<namespace>-quarantine/<repository>`."""
    return f"{namespace}{QUARANTINE_SUFFIX}/{repository}"


def is_backup(name: str, namespaces: Iterable[str]) -> bool:
    """Whether a repository is for backups of blocked images from one of these namespaces."""
    return any(name.startswith(f"{namespace}{QUARANTINE_SUFFIX}/") for namespace in namespaces)


def quarantine_tag(tag: str, judged_at: datetime) -> str:
    """Compose `<tag>.<UTC time>`, truncating the tag to the length limit of tags.

    Uses the gate's time, not the clock: a retried backup gets the same name.
    """
    return f"{tag[:111]}.{judged_at.astimezone(UTC):%Y%m%dT%H%M%SZ}"
