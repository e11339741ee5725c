from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import TaskDeferred
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from delivery_chain.core.event import Event, Kind
from delivery_chain.core.refs import changes
from delivery_chain.operators import sources
from delivery_chain.operators.sources import Cursor, MatchOperator, RememberOperator, WatchOperator
from delivery_chain.triggers import git_ref
from support.chain_steps import DAY, Run, chain

if TYPE_CHECKING:
    from delivery_chain.core.spec import ChainSpec

A, B, C = "a" * 40, "b" * 40, "c" * 40
MAIN, OLD, V1, V2 = "refs/heads/main", "refs/heads/old", "refs/tags/v1.2", "refs/tags/v1.10"
SPEC = chain(
    build={
        "rules": [
            {"name": "main", "branch": "main", "tags": [{"tag": "edge"}]},
            {"name": "release", "tag": r"v(?<n>\d+\.\d+)", "tags": [{"tag": "v${n}"}]},
        ]
    }
)


class Source:
    """A git source and the Airflow around it: the Variables, and the Dag's runs one after the other."""

    def __init__(self, *specs: ChainSpec) -> None:
        self.variables: dict[str, str] = {}
        self.refs: dict[str, str] = {}
        self.chains = tuple((spec, "api") for spec in specs or (SPEC,))
        self.started: list[str] = []
        """Ids of all runs that were ever started; Airflow makes no second one of the same id."""
        self.at = DAY

    def get(self, key: str, default: Any = None) -> str | None:
        return self.variables.get(key, default)

    def set(self, key: str, value: str, description: str = "") -> None:
        self.variables[key] = value

    @property
    def seen(self) -> dict[str, tuple[str, int]] | None:
        return Cursor("cursor").read()

    def context(self, run: Run, task: str) -> dict[str, Any]:
        return run.context(task) | {"dag_run": SimpleNamespace(run_after=self.at)}

    def baseline(self) -> dict[str, str]:
        """What the watch that begins now waits to be different."""
        step = WatchOperator(task_id="watch", cursor="cursor", connection="git_shop", url="api.git")
        with pytest.raises(TaskDeferred) as caught:
            step.execute(self.context(Run(SPEC), "watch"))
        known: dict[str, str] = caught.value.trigger.serialize()[1]["known"]
        return known

    def match(self, known: dict[str, str]) -> tuple[Run, list[dict[str, Any]]]:
        run = Run(SPEC)
        run.leave("watch", [change.to_dict() for change in changes(known, self.refs)])
        step = MatchOperator(task_id="match", chains=self.chains, cursor="cursor")
        found: list[dict[str, Any]] = step.execute(self.context(run, "match"))
        return run, found

    def start(self, runs: list[dict[str, Any]]) -> list[str]:
        """Start runs as Airflow does, and give the ids of those that are new."""
        ids = [f"{run['trigger_dag_id']} {run['trigger_run_id']}" for run in runs]
        new = [one for one in dict.fromkeys(ids) if one not in self.started]
        self.started += new
        return new

    def look(self, known: dict[str, str] | None = None) -> list[str]:
        """One whole run of the source's Dag; gives the runs that it started."""
        self.at += timedelta(minutes=1)
        known = self.baseline() if known is None else known
        run, found = self.match(known)
        new = self.start(found)
        RememberOperator(task_id="remember", cursor="cursor").execute(self.context(run, "remember"))
        return new

    def push(self, **refs: str) -> list[str]:
        self.refs |= {f"refs/{'heads' if name == 'main' else 'tags'}/{name}": to for name, to in refs.items()}
        return self.look()


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Source:
    made = Source()
    monkeypatch.setattr(sources, "Variable", made)
    monkeypatch.setattr(git_ref, "look", lambda *_: dict(made.refs))
    return made


def test_the_first_look_starts_nothing(source: Source) -> None:
    """What was there before is known from then on; the history is not built."""
    source.refs = {MAIN: A, V1: B}
    assert (source.look(), {ref: commit for ref, (commit, _) in (source.seen or {}).items()}) == (
        [],
        {MAIN: A, V1: B},
    )


def test_a_push_starts_the_rules_that_match(source: Source) -> None:
    """One run per rule and chain, with the event as its conf; other refs start nothing."""
    source.look()
    source.refs = {MAIN: A, OLD: B, V1: C}
    before = datetime.now(UTC)
    _, found = source.match(source.baseline())
    events = [Event.from_conf(run["conf"]) for run in found]
    assert [(run["trigger_dag_id"], event.rule) for run, event in zip(found, events, strict=True)] == [
        ("shop", "main"),
        ("shop", "release"),
    ]
    pushed_at = events[0].pushed_at
    assert pushed_at is not None
    assert before <= pushed_at <= datetime.now(UTC)
    assert events[0] == Event(
        kind=Kind.SOURCE_PUSH,
        repository="api",
        rule="main",
        ref=MAIN,
        commit=A,
        pushed_at=pushed_at,
        sender="sensor",
        delivery_id=found[0]["trigger_run_id"],
    )


def test_of_two_tags_in_one_look_the_later_counts_as_newer(source: Source) -> None:
    """`latest` belongs to v1.10, not to v1.2, whichever run publishes first."""
    source.look()
    source.refs = {V2: B, V1: A}
    _, found = source.match(source.baseline())
    times = {run["conf"]["ref"]: Event.from_conf(run["conf"]).pushed_at for run in found}
    assert (list(times), times[V1] < times[V2]) == ([V1, V2], True)  # type: ignore[operator]


def test_there_and_back_makes_three_runs(source: Source) -> None:
    """A, B and A again are three pushes of a branch."""
    source.look()
    made = [source.push(main=commit) for commit in (A, B, A)]
    assert ([len(one) for one in made], len(set(source.started))) == ([1, 1, 1], 3)


def test_a_ref_that_is_gone_and_comes_back_is_pushed(source: Source) -> None:
    """The same commit under a branch that was deleted between is a push of its own."""
    source.look()
    first = source.push(main=A)
    known = source.baseline()
    del source.refs[MAIN], known[MAIN]
    source.refs[MAIN] = A
    second = source.look(known)
    assert (len(first), len(second), first != second) == (1, 1, True)


def test_a_ref_that_is_gone_starts_nothing(source: Source) -> None:
    """There is nothing to build, and the others are still known."""
    source.push(main=A)
    source.refs = {V1: A}
    assert [one.split(" ")[1][:5] for one in source.look()] == ["tag__"]
    assert source.look() == []


def test_more_pushes_than_airflow_starts_at_once_wait_their_turn(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest is started by the next looks, in order, each once."""
    monkeypatch.setattr(sources, "MOST_RUNS", 2)
    source.look()
    found = [
        source.push(**{f"v1.{number}": A for number in range(5)}),
        source.look(),
        source.look(),
        source.look(),
    ]
    assert [[run.split("__")[1] for run in runs] for runs in found] == [
        ["v1.0", "v1.1"],
        ["v1.2", "v1.3"],
        ["v1.4"],
        [],
    ]


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


def test_two_chains_may_build_one_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a run of its own for one push."""
    made = Source(SPEC, SPEC.model_copy(update={"name": "shop-two"}))
    monkeypatch.setattr(sources, "Variable", made)
    monkeypatch.setattr(git_ref, "look", lambda *_: dict(made.refs))
    made.look()
    assert [one.split(" ")[0] for one in made.push(main=A)] == ["shop", "shop-two"]


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
    Cursor("cursor").write({V1: (A, 2), MAIN: (B, 1)})
    assert json.loads(source.variables["cursor"]) == {MAIN: [B, 1], V1: [A, 2]}
    assert Cursor("cursor").read() == {MAIN: (B, 1), V1: (A, 2)}


def test_before_the_first_look_there_is_no_cursor(source: Source) -> None:
    """Nothing seen is not the same as an empty source."""
    assert Cursor("cursor").read() is None
    Cursor("cursor").write({})
    assert Cursor("cursor").read() == {}


def test_cursors_of_two_sources_are_apart(source: Source) -> None:
    """Each source's Dag has its own."""
    Cursor("one").write({MAIN: (A, 1)})
    assert Cursor("two").read() is None


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    history=st.lists(st.sampled_from([A, B, C]), max_size=12), crashes=st.lists(st.booleans(), min_size=12)
)
def test_each_change_that_is_seen_is_one_run(source: Source, history: list[str], crashes: list[bool]) -> None:
    """Whatever the pushes of a branch are, and wherever the Dag crashes before it remembers."""
    source.variables, source.refs, source.started = {}, {}, []
    source.look()
    moves = 0
    for commit, crash in zip(history, crashes, strict=False):
        moves += source.refs.get(MAIN) != commit
        source.refs[MAIN] = commit
        if crash:
            source.start(source.match(source.baseline())[1])
        source.look()
    assert len(source.started) == moves
