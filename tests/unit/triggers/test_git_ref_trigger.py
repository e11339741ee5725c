from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import Variable

from delivery_chain.core.events.watch_dags import over_key, told_key
from delivery_chain.errors import ConfigurationError, SourceUnreachable
from delivery_chain.triggers import base, git_ref
from delivery_chain.triggers.git_ref import GitRefTrigger
from support.scripted_looks import Scripted, fired

if TYPE_CHECKING:
    from collections.abc import Callable

A, B = "a" * 40, "b" * 40
MAIN, TAG = "refs/heads/main", "refs/tags/v1"


@pytest.fixture
def fire(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Any, list[float]]]:
    """Run a trigger over scripted looks; gives its event and the pauses between the looks."""

    def run(known: dict[str, str] | None, *looks: Scripted) -> tuple[Any, list[float]]:
        trigger = GitRefTrigger("git_shop", "api.git", tags="v.*", known=known, poll_seconds=7)
        return fired(monkeypatch, git_ref, trigger, *looks)

    return run


def test_it_comes_back_from_its_serialisation() -> None:
    """Airflow makes the trigger again from path and arguments."""
    trigger = GitRefTrigger(
        "git_shop", "api.git", branches="main", tags="v.*", known={TAG: A}, poll_seconds=7, since="T0"
    )
    path, arguments = trigger.serialize()
    assert path == "delivery_chain.triggers.git_ref.GitRefTrigger"
    assert GitRefTrigger(**arguments).serialize() == (path, arguments)


def test_a_trigger_of_an_older_version_comes_back() -> None:
    """Airflow's database may hold arguments without `since`."""
    _, arguments = GitRefTrigger("git_shop", known={TAG: A}).serialize()
    assert arguments.pop("since") is None
    assert arguments.pop("told") is None
    assert GitRefTrigger(**arguments).since is None


def test_it_waits_for_a_difference(fire: Callable[..., tuple[Any, list[float]]]) -> None:
    """Equal looks make no event; the first other one does, once."""
    assert fire({MAIN: A}, {MAIN: A}, {MAIN: A}, {MAIN: B, TAG: B}) == (
        {
            "refs": [
                {"ref": MAIN, "commit": B, "previous": A},
                {"ref": TAG, "commit": B, "previous": None},
            ],
            "gone": [],
            "seen": {MAIN: B, TAG: B},
            "looked": "T3",
            "since": "T2",
        },
        [7, 7],
    )


def test_a_watch_that_no_chain_needs_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where its source is gone and each look fails; whether it is needed is asked once a minute."""
    clock, asked = [0.0], []

    def get(key: str, default: Any) -> str | None:
        asked.append((key, clock[0]))
        return "since then" if clock[0] > 2 * base.OVER_SECONDS else default

    async def sleep(seconds: float) -> None:
        clock[0] += seconds

    def look(*_: Any) -> dict[str, str]:
        raise SourceUnreachable("gone")

    monkeypatch.setattr(git_ref, "look", look)
    monkeypatch.setattr(base.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(base.asyncio, "sleep", sleep)
    monkeypatch.setattr(Variable, "get", get)
    trigger = GitRefTrigger("git_shop", "api.git", known={}, poll_seconds=7, told=told_key("x"))

    async def events() -> list[Any]:
        return [event.payload async for event in trigger.run()]

    assert asyncio.run(events()) == [{"over": True}]
    assert {key for key, _ in asked} == {over_key(told_key("x"))}
    assert all(later - earlier >= base.OVER_SECONDS for (_, earlier), (_, later) in pairwise(asked))


def test_deleted_refs_are_a_difference(fire: Callable[..., tuple[Any, list[float]]]) -> None:
    """A deleted ref is reported, so that its return counts as new."""
    assert fire({MAIN: A, TAG: A}, {MAIN: A})[0] == {
        "refs": [],
        "gone": [TAG],
        "seen": {MAIN: A},
        "looked": "T1",
        "since": "T1",
    }


def test_without_a_baseline_the_first_look_is_the_event(fire: Callable[..., tuple[Any, list[float]]]) -> None:
    """Also where there is no ref yet."""
    assert fire(None, {}) == ({"refs": [], "gone": [], "seen": {}, "looked": "T1", "since": "T1"}, [])


def test_a_source_that_does_not_answer_is_asked_again(fire: Callable[..., tuple[Any, list[float]]]) -> None:
    """Pauses grow, follow the server's wish, and start over after a look that worked."""
    down = SourceUnreachable("down")
    busy = SourceUnreachable("busy", retry_after=99)
    event, pauses = fire({}, down, down, busy, {}, down, {TAG: A})
    assert (event["seen"], pauses) == ({TAG: A}, [10, 20, 99, 7, 10])


def test_what_waiting_cannot_mend_ends_the_wait(fire: Callable[..., tuple[Any, list[float]]]) -> None:
    """The event carries the message; the trigger itself does not die."""
    assert fire({}, ConfigurationError("connection 'x' is missing")) == (
        {"error": "connection 'x' is missing", "setup": True},
        [],
    )
