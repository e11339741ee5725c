from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_chain.core.events.event import Event, Kind, actor_of, push_run_id
from delivery_chain.core.names.git_ref import check_ref, short_ref
from delivery_chain.errors import UsageError

A, B = "a" * 40, "b" * 40
DIGEST = "sha256:" + "c" * 64
MAIN = "refs/heads/main"


def test_from_conf() -> None:
    """Empty fields of a form count as not said, spaces around are dropped, and times are UTC."""
    conf = {"ref": " v1 ", "rule": "", "commit": None, "pushed_at": "2026-05-20T16:00:00+08:00", "tag": "  "}
    assert Event.from_conf(conf) == Event(
        kind=Kind.MANUAL, ref="v1", pushed_at=datetime(2026, 5, 20, 8, 0, tzinfo=UTC)
    )


def test_naive_time_is_utc() -> None:
    """A time without a zone is taken for UTC."""
    assert Event.from_conf({"pushed_at": "2026-05-20T16:00:00"}).pushed_at == datetime(
        2026, 5, 20, 16, tzinfo=UTC
    )


@pytest.mark.parametrize(
    ("conf", "lines"),
    [
        ({"reff": "x"}, ["reff: Extra inputs are not permitted"]),
        (
            {"ref": "-x", "commit": "abc"},
            [
                (
                    "ref: expected a git ref such as v1.2.0 or refs/heads/main, found '-x': the name of "
                    "the branch or tag begins with '-'"
                ),
                "commit: expected a full commit id of 40 hex digits, found 'abc'",
            ],
        ),
        (
            {"ref": "main", "tag": "v1"},
            [
                "conf: expected either a git `ref` to build, or the `tag` or `digest` of an existing image; found both"
            ],
        ),
        (
            {"kind": "source_push", "ref": MAIN},
            ["conf: a source push requires `ref` and `commit`"],
        ),
        (
            {"kind": "image_push", "tag": "v1"},
            ["conf: an image push requires `repository`, and `tag` or `digest`"],
        ),
        ({"kind": "other"}, ["kind: Input should be 'source_push', 'image_push' or 'manual'"]),
    ],
)
def test_conf_refused(conf: dict[str, Any], lines: list[str]) -> None:
    """A run's configuration that is no event is refused with every wrong field."""
    with pytest.raises(UsageError) as caught:
        Event.from_conf(conf)
    assert str(caught.value).splitlines() == ["the run's configuration is not a valid event:", *lines]


@pytest.mark.parametrize(
    "ref",
    ["", "-x", "a b", "a..b", "a@{b", "a//b", "a/.b", "a.lock", "a.lock/b", "a.", "a/", "a~", "a^", "a:b", "a?", "a*",
     "a[", "a\\b", "a\nb", "a\x7f", "x" * 251, "ü" * 126, "a/" * 2000 + "a", "@", "/a", ".a", "refs/heads/.a",
     "refs/heads/-x",
     "a\ud800"],
)  # fmt: skip
def test_refs_refused(ref: str) -> None:
    """Git's own rules hold, and nothing passes for an option."""
    with pytest.raises(ValueError, match="expected a git ref"):
        check_ref(ref)


@pytest.mark.parametrize(
    "ref",
    [
        "main",
        "refs/heads/feature/x",
        "refs/heads/feature/-x",
        "refs/heads/@",
        "feature/-x",
        "v1.2.0",
        "ü",
        "a-b_c",
        "x" * 250,
        "ü" * 125,
        "/".join(["x" * 250] * 15),
    ],
)
def test_refs_taken(ref: str) -> None:
    """Names that git takes are left as they are."""
    assert check_ref(ref) == ref


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("refs/heads/a/b", ("branch", "a/b")),
        ("refs/tags/v1", ("tag", "v1")),
        ("v1", ("", "v1")),
        ("refs/pull/1", ("", "refs/pull/1")),
    ],
)
def test_short_ref(ref: str, expected: tuple[str, str]) -> None:
    """A full ref includes its kind, a short one does not."""
    assert short_ref(ref) == expected


def test_back_and_forth_gives_three_runs() -> None:
    """A ref that goes from A to B and back to A has three ids; who sees the same push again has the same id."""
    ids = [
        push_run_id(ref=MAIN, commit=commit, rule="main", visit=number)
        for number, commit in enumerate((A, B, A), start=1)
    ]
    assert len(set(ids)) == 3
    assert ids[0] == push_run_id(ref=MAIN, commit=A, rule="main", visit=1)
    assert re.fullmatch(r"branch__main__a{12}__main__[0-9a-f]{8}", ids[0])


def test_run_ids_tell_apart() -> None:
    """Another ref, rule or kind of the same name is another run, though both read alike."""
    refs = ["refs/heads/a/b", "refs/heads/a+b", "refs/tags/a/b"]
    ids = {push_run_id(ref=ref, commit=A, rule=rule, visit=1) for ref in refs for rule in ("r", "s")}
    assert len(ids) == 6


@given(st.text(max_size=1000), st.from_regex(r"\A[a-z0-9][a-z0-9._-]{0,62}[a-z0-9]\Z"), st.integers(0, 10**9))
def test_run_id_is_one(name: str, rule: str, visit: int) -> None:
    """Whatever the ref, the id has at most 200 characters of those that Airflow takes in a run id."""
    made = push_run_id(ref="refs/tags/" + name, commit=A, rule=rule, visit=visit)
    assert re.fullmatch(r"[A-Za-z0-9_.~:+-]{1,200}", made)


@pytest.mark.parametrize(
    ("said", "sender", "user", "actor"),
    [
        ("alice", "webhook gitlab", "webhook gitlab", "alice"),
        ("alice", "sensor", "", "alice"),
        ("", "", "anna", "anna"),
        ("anna", "", "anna", "anna"),
        ("alice", "", "anna", "alice, says anna"),
        ("alice", "webhook gitlab", "anna", "alice, says anna"),
        ("alice", "webhook other", "webhook gitlab", "alice, says webhook gitlab"),
        ("alice", "anna", "anna", "alice, says anna"),
        ("", "", "", ""),
    ],
)
def test_nobody_speaks_in_anothers_name(said: str, sender: str, user: str, actor: str) -> None:
    """A run's conf may name anybody; who started the run is Airflow's word."""
    assert actor_of(Event(ref="v1", actor=said, sender=sender), user) == actor
