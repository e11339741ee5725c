"""The cursor of a source: crashes, losses, retries."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from delivery_chain.errors import ConfigurationError
from delivery_chain.operators.match import MatchOperator, RememberOperator
from delivery_chain.operators.watch import Cursor
from support.match_source import MAIN, OLD, V1, V2, A, B, C, Source


def test_a_crash_before_it_is_remembered_makes_no_second_run(source: Source) -> None:
    """The next look sees the same change, and gives it the same run id."""
    source.look()
    source.refs[MAIN] = A
    known = source.baseline()
    _, found = source.match(known)
    assert len(source.start(found)) == 1
    assert (source.look(), len(source.started)) == ([], 1)


def test_matching_again_gives_the_same_ids(source: Source) -> None:
    """A retried or cleared step starts nothing new."""
    source.look()
    source.refs = {MAIN: A, V1: B}
    known = source.baseline()
    ids = [[run["trigger_run_id"] for run in source.match(known)[1]] for _ in range(2)]
    assert ids[0] == ids[1]


def test_a_lost_cursor_builds_no_history(source: Source) -> None:
    """Somebody removes the Variable while the Dag waits: the push that comes is built, and the old refs are not."""
    source.refs = {V1: A, V2: B, OLD: A}
    source.look()
    known = source.baseline()
    source.variables.clear()
    source.refs[MAIN] = C
    assert [one.split(" ")[1][:6] for one in source.look(known)] == ["branch"]
    assert (source.look(), source.look()) == ([], [])


def test_a_lost_cursor_loses_no_push(source: Source) -> None:
    """A branch that comes back to an old commit after the loss has a run id that was never used."""
    source.look()
    for commit in (A, B):
        source.push(main=commit)
    source.variables.clear()
    source.look()
    assert [len(source.push(main=commit)) for commit in (A, B, A)] == [1, 1, 1]


def test_a_loss_while_it_waits_gives_a_retry_the_same_ids(source: Source) -> None:
    """Also without a cursor the ids come from what does not change between two tries."""
    source.look()
    source.push(main=A)
    known = source.baseline()
    source.variables.clear()
    source.refs[MAIN] = B
    ids = [[run["trigger_run_id"] for run in source.match(known)[1]] for _ in range(2)]
    assert (ids[0], len(ids[0])) == (ids[1], 1)


def test_the_cursor_is_plain_json(source: Source) -> None:
    """People can read it under Admin > Variables, and correct it."""
    Cursor("cursor").write("2026-05-20T12:00:00+00:00", {V1: A, MAIN: B})
    said = {"looked": "2026-05-20T12:00:00+00:00", "refs": {MAIN: B, V1: A}}
    assert json.loads(source.variables["cursor"]) == said
    assert Cursor("cursor").read() == tuple(said.values())


def test_before_the_first_look_there_is_no_cursor(source: Source) -> None:
    """Nothing seen is not the same as an empty source."""
    assert Cursor("cursor").read() is None
    Cursor("cursor").write("2026-05-20T12:00:00+00:00", {})
    assert Cursor("cursor").read() == ("2026-05-20T12:00:00+00:00", {})


@pytest.mark.parametrize(
    "text", ["", "x", "[]", "{}", '{"looked": 1, "refs": {}}', '{"looked": "", "refs": {}}']
)
def test_a_cursor_that_can_not_be_read(source: Source, text: str) -> None:
    """People may correct it, and err: the message has the Variable's name and what to do."""
    source.variables["cursor"] = text
    with pytest.raises(ConfigurationError, match=r"Variable cursor: expected .* correct it or remove it"):
        Cursor("cursor").read()


def test_cursors_of_two_sources_are_apart(source: Source) -> None:
    """Each source's Dag has its own."""
    Cursor("one").write("2026-05-20T12:00:00+00:00", {MAIN: A})
    assert Cursor("two").read() is None


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    history=st.lists(st.sampled_from([A, B, C]), max_size=12), crashes=st.lists(st.booleans(), min_size=12)
)
def test_each_change_that_is_seen_is_one_run(source: Source, history: list[str], crashes: list[bool]) -> None:
    """Whatever the pushes of a branch are, and wherever the Dag crashes before it remembers."""
    source.variables, source.refs, source.started, source.confs = {}, {}, [], {}
    source.look()
    moves = 0
    for commit, crash in zip(history, crashes, strict=False):
        moves += source.refs.get(MAIN) != commit
        source.refs[MAIN] = commit
        if crash:
            source.start(source.match(source.baseline())[1])
        source.look()
    assert len(source.started) == moves


@pytest.mark.parametrize("cleared", [("remember",), ("match", "start", "remember")])
def test_an_old_look_that_is_cleared_moves_the_cursor_nowhere(
    source: Source, cleared: tuple[str, ...]
) -> None:
    """Its pushes have their runs; a cursor of that time would take the next push of B for the one between."""
    source.look()
    source.refs[MAIN] = A
    source.at += timedelta(minutes=1)
    run, found = source.match(source.baseline())
    source.start(found)
    remember = RememberOperator(task_id="remember", cursor="cursor")
    remember.execute(source.context(run, "remember"))
    source.push(main=B), source.push(main=A)
    before, started = source.variables["cursor"], list(source.started)
    if "match" in cleared:
        match = MatchOperator(task_id="match", chains=source.chains, cursor="cursor")
        source.start(match.execute(source.context(run, "match")))
    remember.execute(source.context(run, "remember"))
    assert (source.variables["cursor"], source.started) == (before, started)
    assert [len(source.push(main=B)), len(source.look())] == [1, 0]
