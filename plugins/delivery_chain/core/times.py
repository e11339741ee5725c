"""Untrusted times, from a sender, a user or an image's annotation. Times in the future are not accepted.

Pure: the current time is an argument.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime.fromtimestamp(0, UTC)
"""No push is older. Some senders write 0, or Go's zero time, for an unknown time."""
CLOCKS_APART = timedelta(minutes=5)
"""Tolerated clock skew of the machine that a time comes from."""
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def in_utc(time: datetime) -> datetime:
    """Convert to UTC, which is also the default zone; clamp to the first and last time that `datetime` can express."""
    if time.tzinfo is None:
        return time.replace(tzinfo=UTC)
    try:
        return time.astimezone(UTC)
    except OverflowError:
        return _FIRST if time.year == _FIRST.year else _LAST


def read_time(text: object) -> datetime | None:
    """Parse an ISO 8601 time to UTC; None if malformed, or older than any push."""
    try:
        found = in_utc(datetime.fromisoformat(text)) if isinstance(text, str) else None
    except ValueError:
        return None
    return found if found and found > EPOCH else None


def not_after(time: datetime | None, now: datetime) -> datetime:
    """Return the time, or now if it is missing or in the future."""
    return min(in_utc(time), now) if time else now


def claimed(text: object, now: datetime) -> datetime:
    """Push time that an image claims.

    1970 if the claim proves nothing: it is missing, or in the future by more than the tolerated clock skew.
    """
    found = read_time(text)
    return found if found and found <= now + CLOCKS_APART else _FIRST
