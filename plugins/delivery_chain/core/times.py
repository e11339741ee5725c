"""Times that somebody else wrote: a sender, a person, an image's annotation. Their future is not believed.

Pure: the present is an argument.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime.fromtimestamp(0, UTC)
"""No push is older. Go's zero time and 0 mean that nothing is known."""
CLOCKS_APART = timedelta(minutes=5)
"""How far ahead of ours the clock of whoever wrote a time may be."""
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def in_utc(time: datetime) -> datetime:
    """The time in UTC, which one without a zone is taken for; the calendar's end where it lies beyond it."""
    if time.tzinfo is None:
        return time.replace(tzinfo=UTC)
    try:
        return time.astimezone(UTC)
    except OverflowError:
        return _FIRST if time.year == _FIRST.year else _LAST


def read_time(text: object) -> datetime | None:
    """An ISO 8601 time in UTC; None for what is none, or is older than any push."""
    try:
        found = in_utc(datetime.fromisoformat(text)) if isinstance(text, str) else None
    except ValueError:
        return None
    return found if found and found > EPOCH else None


def not_after(time: datetime | None, now: datetime) -> datetime:
    """The time, or now: where none is said, and for one that lies in the future."""
    return min(in_utc(time), now) if time else now


def claimed(text: object, now: datetime) -> datetime:
    """When an image says that it was pushed; the beginning of time where that proves nothing.

    That is what says no time, and what lies in the future by more than clocks differ.
    """
    found = read_time(text)
    return found if found and found <= now + CLOCKS_APART else _FIRST
