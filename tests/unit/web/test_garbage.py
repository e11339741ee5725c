# ruff: noqa: PLC0415 - Airflow takes seconds to import; only the tests that run pay
"""Garbage in confs, XComs and Variables never fails a webhook, a page or a sensor."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from delivery_chain.core.events.history import Sighting
from delivery_chain.core.events.ledger import Looked, Seen, join
from delivery_chain.core.events.routing import OPERATOR_TRIGGERED, made_by_us, source_starts
from support.chain_steps import chain

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
MAIN, A = "refs/tags/v1.2", "a" * 40
START = source_starts([(chain(), "api")], ref=MAIN, commit=A, previous="")[0]
OURS = START.event.to_conf()
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.datetimes().map(str),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
confs = values | st.dictionaries(
    st.sampled_from(["seen_at", "pushed_at", "sender", "delivery_id", *OURS]), values, max_size=6
)
kinds = st.sampled_from([OPERATOR_TRIGGERED, "manual", "scheduled", "", None])
users = st.sampled_from(["mallory", "webhook hook", "", None])


class Rows:
    """A session that gives these rows."""

    def __init__(self, *rows: tuple[Any, ...]) -> None:
        self.rows = rows

    def execute(self, _: object) -> tuple[tuple[Any, ...], ...]:
        return self.rows


@settings(deadline=None)
@given(confs, kinds, users, st.booleans())
def test_a_run_with_any_conf(conf: Any, kind: Any, user: Any, ours: bool) -> None:  # noqa: FBT001
    """It is the push's run if Airflow says that we made it, and its conf says of what; it was seen no later."""
    from delivery_chain.airflow_db.runs import _look

    conf = OURS | conf if ours and isinstance(conf, dict) else conf
    run_id = START.run_id(1)
    (found,) = _look(Rows((run_id, NOW, kind, user, conf)), START, {run_id: 1}).values()  # type: ignore[arg-type]
    by_us = kind == OPERATOR_TRIGGERED or user == "webhook hook"
    wanted = by_us and isinstance(conf, dict) and {key: conf.get(key) for key in OURS} == OURS
    if not any(conf.get(key) for key in ("tag", "digest")) if isinstance(conf, dict) else True:
        assert (found is not None) == wanted
    assert found is None or (found.seen_at and found.seen_at <= NOW)


@settings(deadline=None)
@given(values)
def test_a_cursor_of_any_kind(value: Any) -> None:
    """Where the sensor saw a ref is a commit or nothing, whatever is in the Variable."""
    from delivery_chain.airflow_db.push_events import _cursor as ledgers
    from delivery_chain.airflow_db.ref_history import _cursor

    for said in (value, {"looked": NOW.isoformat(), "refs": value}, {"looked": value, "refs": {"a": value}}):
        text = json.dumps(said)
        for looked, refs in filter(None, (_cursor(text, False), ledgers(text))):  # noqa: FBT003
            assert looked is None or looked.tzinfo
            assert all(Sighting(commit=commit, before=None, at=NOW) for commit in refs.values())


@settings(deadline=None)
@given(st.lists(values, max_size=3), st.datetimes().map(str) | st.text())
def test_the_ledger_of_any_kind(items: list[Any], time: str) -> None:
    """What is no entry is counted, and what is one can be compared with all others."""
    from delivery_chain.airflow_db.push_events import _Reader
    from delivery_chain.airflow_db.xcoms import decoded

    entry = {"ref": MAIN, "commit": A, "by": "sensor", "at": time, "since": time}
    reader = _Reader(SimpleNamespace(), NOW)  # type: ignore[arg-type]
    found = reader._entries(
        "place", Looked.from_xcom, [*items, entry, entry | {"at": NOW.isoformat(), "since": None}]
    )
    lines = join([*found, Seen("place", found[-1].entry)])
    assert reader.skipped + len(found) == len(items) + 2
    assert [line.change() for line in lines]
    assert [decoded(text) for text in ("{", "[" * 100_000, "1")] == [None, None, 1]


@settings(deadline=None)
@given(values)
def test_a_conf_of_ours_is_no_other_ones(other: Any) -> None:
    """Another ref, commit or rule under the id is another run."""
    for key in OURS:
        if other != OURS[key]:
            assert not made_by_us(OPERATOR_TRIGGERED, "", OURS | {key: other}, OURS)
    assert made_by_us(OPERATOR_TRIGGERED, None, OURS, OURS)
    assert not made_by_us("manual", "mallory", OURS, OURS)
