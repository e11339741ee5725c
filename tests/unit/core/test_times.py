from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_chain.core.events.event import Event
from delivery_chain.core.events.notification import Notification
from delivery_chain.core.times import CLOCKS_APART, EPOCH, claimed, in_utc, not_after, read_time
from delivery_chain.errors import UsageError

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
NEVER = datetime.min.replace(tzinfo=UTC)
zones = st.none() | st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
times = st.builds(lambda time, zone: time.replace(tzinfo=zone), st.datetimes(), zones)
texts = st.text() | times.map(str) | times.map(datetime.isoformat)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-27T12:00:00Z", NOW),
        ("2026-11-27T20:00:00+08:00", NOW),
        ("2026-11-27T12:00:00", NOW),
        ("2026-11-27", datetime(2026, 11, 27, tzinfo=UTC)),
        ("9999-12-31T23:59:59-14:00", datetime.max.replace(tzinfo=UTC)),
        ("0001-01-01T00:00:00+14:00", None),
        ("0001-01-01T00:00:00Z", None),
        ("1970-01-01T00:00:00Z", None),
        ("yesterday", None),
        ("", None),
        (None, None),
        (7, None),
        ([], None),
    ],
)
def test_what_is_a_time(text: object, expected: datetime | None) -> None:
    """ISO 8601, in UTC; the calendar's ends are times too, and what is older than any push says nothing."""
    assert read_time(text) == expected


@given(texts | st.none() | st.integers() | st.lists(st.text()))
def test_nothing_claims_the_future(text: object) -> None:
    """Whatever an image says: no time beyond what clocks may differ by, and never an error."""
    assert NEVER <= claimed(text, NOW) <= NOW + CLOCKS_APART


@given(times)
def test_the_future_is_now(time: datetime) -> None:
    """A past time stays what it is, in UTC; every other one is now."""
    found = not_after(time, NOW)
    assert found == (min(NOW, in_utc(time)))
    assert not_after(None, NOW) == NOW


@given(
    st.dictionaries(st.sampled_from(["pushed_at", "seen_at"]), texts | times | st.floats() | st.integers())
)
def test_an_event_takes_or_refuses_any_time(said: dict[str, Any]) -> None:
    """By its field's name, and never by another error."""
    try:
        event = Event.from_conf({"ref": "main", **said})
    except UsageError as refused:
        named = [field for field in said if field in str(refused)]
    else:
        named = [time is None or time >= EPOCH for time in (event.pushed_at, event.seen_at)]
    assert named
    assert all(named)


@given(times)
def test_a_delivery_has_a_possible_time_or_none(time: datetime) -> None:
    """So that nothing after it fails on a sender's odd clock."""
    found = Notification(event="push", delivery_id="d", pushed_at=time).pushed_at
    assert found is None or (found > EPOCH and found.tzinfo is UTC)
