from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_chain.core.names.reference import check_name, check_tag
from delivery_chain.core.names.tags import (
    compose_tag,
    is_reserved,
    quarantine_name,
    quarantine_tag,
    run_key,
    staging_tag,
)
from delivery_chain.core.spec.model import TagRule
from delivery_chain.errors import EventRefused

COMMIT = "d4ef3d" + "0" * 34
PUSHED = datetime(2020, 10, 15, 8, 25, tzinfo=UTC)


def compose(
    captured: dict[str, str] | None = None, *, zone: str = "Asia/Shanghai", at: datetime = PUSHED, **rule: Any
) -> str:
    return compose_tag(
        TagRule.model_validate(rule), captured=captured or {}, pushed_at=at, timezone=zone, commit=COMMIT
    )


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"tag": "v1", "build_time": "minute", "commit_id": True}, "v1-202010151625-d4ef3d"),
        ({"tag": "v1", "build_time": "date"}, "v1-20201015"),
        ({"tag": "v1", "build_time": "date", "zone": "America/New_York"}, "v1-20201015"),
        ({"tag": "v1", "build_time": "minute", "zone": "UTC"}, "v1-202010150825"),
        ({"tag": "v1", "commit_id": 1}, "v1-d"),
        ({"tag": "v1", "commit_id": 40}, f"v1-{COMMIT}"),
        ({"tag": "latest"}, "latest"),
        ({"tag": "${a}.${b}", "captured": {"a": "1", "b": "2"}}, "1.2"),
        ({"tag": "v${a}", "captured": {"a": ""}}, "v"),
        ({"tag": "x", "build_time": "date", "at": PUSHED.replace(hour=16)}, "x-20201016"),
        (
            {"tag": "x", "build_time": "minute", "at": PUSHED.astimezone(timezone(timedelta(hours=-5)))},
            "x-202010151625",
        ),
    ],
)
def test_composition(rule: dict[str, Any], expected: str) -> None:
    """A tag consists of text, time (by default in UTC+8) and commit, in this order."""
    assert compose(**rule) == expected


@pytest.mark.parametrize(
    ("captured", "message"),
    [
        ("", "the tag rule '${a}' produces an invalid tag: tag '': expected 1 to 128"),
        (
            "feature/x",
            "the tag rule '${a}' produces an invalid tag: tag 'feature/x': expected 1 to 128",
        ),
        ("x" * 129, "the tag rule '${a}' produces an invalid tag: tag 'xxx"),
        ("_staging-x", "the tag rule '${a}' produces '_staging-x', which is a name reserved for the chain"),
    ],
)
def test_refused(captured: str, message: str) -> None:
    """A tag that no registry takes, or that is reserved, refuses the event; nothing is mangled."""
    with pytest.raises(EventRefused) as caught:
        compose({"a": captured}, tag="${a}")
    assert str(caught.value).startswith(message)


@given(
    st.text(max_size=140),
    st.sampled_from(["${a}", "v${a}", "${a}-x", "_${a}"]),
    st.sampled_from([None, "date", "minute"]),
    st.none() | st.integers(1, 40),
    st.datetimes(datetime(1970, 1, 2), datetime(9000, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - has to be naive
)
def test_valid_or_refused(text: str, tag: str, time: str | None, commit: int | None, at: datetime) -> None:
    """Whatever a push captures, the tag is one that registries take and nobody reserves, or the event is refused."""
    try:
        made = compose({"a": text}, at=at, tag=tag, build_time=time, commit_id=commit)
    except EventRefused:
        return
    assert check_tag(made) == made
    assert not is_reserved(made)
    assert made.startswith(tag.partition("$")[0])
    assert text in made


@pytest.mark.parametrize(
    ("tag", "reserved"),
    [
        ("_staging-0123456789ab", True),
        ("_staging-0123456789ab-linux-amd64", True),
        ("sha256-" + "0" * 64, True),
        ("sha256-" + "0" * 64 + ".sig", True),
        ("sha512-ab", True),
        ("staging-1", False),
        ("sha256", False),
        ("sha256-xyz", False),
        ("latest", False),
    ],
)
def test_reserved(tag: str, reserved: bool) -> None:  # noqa: FBT001 - a table
    """Staging tags and the fallback tags of referrers are not for users."""
    assert is_reserved(tag) is reserved


def test_run_names() -> None:
    """A run's key differs between chains and runs, and its staging tags are valid and reserved."""
    keys = {run_key("a", "b"), run_key("ab", ""), run_key("a", "c"), run_key("", "ab")}
    tags = [staging_tag(run_key("a", "b")), staging_tag(run_key("a", "b"), "linux-arm-v7")]
    assert (len(keys), [is_reserved(check_tag(tag)) for tag in tags]) == (4, [True, True])


def test_quarantine_names() -> None:
    """A backup goes beside the namespace under tag and UTC time, however long the tag."""
    at = datetime(2026, 5, 20, 14, 0, 5, tzinfo=timezone(timedelta(hours=2)))
    assert check_name(quarantine_name("shop", "api")) == "shop-quarantine/api"
    assert quarantine_tag("v1", at) == "v1.20260520T120005Z"
    assert check_tag(quarantine_tag("x" * 128, at)) == "x" * 111 + ".20260520T120005Z"
