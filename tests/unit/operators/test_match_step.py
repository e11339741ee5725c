from __future__ import annotations

import json
import shlex
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import TaskDeferred
from airflow.sdk.execution_time import task_runner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from delivery_chain.commands.main import parser_for
from delivery_chain.commands.trigger import conf_of
from delivery_chain.core.events.event import Event, Kind, image_run_id
from delivery_chain.core.events.history import CLOCKS, Sighting, Told
from delivery_chain.core.events.ledger import Looked
from delivery_chain.core.events.refs import difference
from delivery_chain.core.events.routing import source_starts
from delivery_chain.core.events.watch_dags import told_key
from delivery_chain.core.spec.model import ChainSpec
from delivery_chain.errors import ConfigurationError, SourceUnreachable
from delivery_chain.hooks import absence
from delivery_chain.operators import match as sources
from delivery_chain.operators import watch as watching
from delivery_chain.operators.match import NOTHING, MatchOperator, RememberOperator
from delivery_chain.operators.watch import Cursor, WatchImagesOperator, WatchOperator
from delivery_chain.triggers import git_ref
from support.chain_steps import DAY, Run, chain

if TYPE_CHECKING:
    from collections.abc import Callable

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
        self.confs: dict[str, dict[str, Any]] = {}
        """The conf of each."""
        self.persons: dict[str, str] = {}
        """Who started a run by hand, of those that are no sensor's."""
        self.superseded: set[str] = set()
        """Those that found their ref moved on."""
        self.between: Callable[[list[dict[str, Any]]], object] | None = None
        """What happens between `match` and `start`."""
        self.skipped: dict[str, str] = {}
        """The instances of `start` that found their run there."""
        self.ended: dict[str, datetime] = {}
        """When runs ended; the others have not."""
        self.at = DAY
        self.away = False
        """Whether git does not answer."""

    def ask(self, *_: Any) -> dict[str, str]:
        """One look at the source."""
        if self.away:
            raise SourceUnreachable("git does not answer")
        return dict(self.refs)

    def get(self, key: str, default: Any = None) -> str | None:
        return self.variables.get(key, default)

    def set(self, key: str, value: str, description: str = "") -> None:
        self.variables[key] = value

    @property
    def seen(self) -> dict[str, str]:
        """What the cursor holds."""
        known = Cursor("cursor").read()
        assert known is not None
        return known[1]

    def send(self, asked: Any) -> Any:
        """Answer a task that asks its supervisor for a run."""
        one = f"{asked.dag_id} {asked.run_id}"
        person = self.persons.get(one)
        return SimpleNamespace(
            conf=self.confs[one],
            run_after=self.at,
            end_date=self.ended.get(one),
            run_type="manual" if person else "operator_triggered",
            triggering_user_name=person,
        )

    def context(self, run: Run, task: str) -> dict[str, Any]:
        """Airflow's, with a task instance that knows the runs."""
        context = run.context(task)
        return context | {"ti": Knowing(self, context["ti"])}

    def first(self) -> Run:
        """The Dag's first run, of the first look."""
        step = WatchOperator(task_id="watch", cursor="cursor", connection="git_shop", url="api.git")
        run = Run(SPEC)
        run.leave("watch", step.execute(self.context(run, "watch")))
        match = MatchOperator(task_id="match", chains=self.chains, cursor="cursor")
        run.xcoms["match", -1, "return_value"] = match.execute(self.context(run, "match"))
        RememberOperator(task_id="remember", cursor="cursor").execute(self.context(run, "remember"))
        return run

    def baseline(self) -> tuple[dict[str, str], str]:
        """What the watch that begins now waits to be different, and when that was seen."""
        step = WatchOperator(task_id="watch", cursor="cursor", connection="git_shop", url="api.git")
        self.away = True
        with pytest.raises(TaskDeferred) as caught:
            step.execute(self.context(Run(SPEC), "watch"))
        self.away = False
        arguments = caught.value.trigger.serialize()[1]
        assert arguments["told"] == told_key("cursor")
        return arguments["known"], arguments["since"]

    def watch(self, known: tuple[dict[str, str], str]) -> Any:
        """What the task `watch` gives for a look at this time."""
        step = WatchOperator(task_id="watch", cursor="cursor", connection="git_shop", url="api.git")
        event = difference(known[0], self.refs) | {"since": known[1], "looked": self.at.isoformat()}
        return step._result({}, event)

    def match(self, known: tuple[dict[str, str], str]) -> tuple[Run, list[dict[str, Any]]]:
        """The runs that one look makes."""
        run = Run(SPEC)
        run.leave("watch", self.watch(known))
        step = MatchOperator(task_id="match", chains=self.chains, cursor="cursor")
        found: list[dict[str, Any]] = step.execute(self.context(run, "match"))
        return run, found

    def start(self, runs: list[dict[str, Any]]) -> list[str]:
        """Start runs as Airflow does, and give the ids of those that are new."""
        new = []
        self.skipped = {}
        for index, run in enumerate(runs):
            one = f"{run['trigger_dag_id']} {run['trigger_run_id']}"
            if one in self.confs:
                self.skipped[f"start_{index}"] = "skipped"
            else:
                self.confs[one] = run["conf"]
                new.append(one)
        self.started += new
        return new

    def look(self, known: tuple[dict[str, str], str] | None = None) -> list[str]:
        """One whole run of the source's Dag; gives the runs that it started."""
        self.at += timedelta(minutes=1)
        if known is None and Cursor("cursor").read() is None:
            found: list[dict[str, Any]] = self.first().xcoms["match", -1, "return_value"]
            return self.start(found)
        known = self.baseline() if known is None else known
        run, found = self.match(known)
        run.xcoms["match", -1, "return_value"] = found
        if self.between:
            self.between(found)
        new = self.start(found)
        RememberOperator(task_id="remember", cursor="cursor").execute(self.context(run, "remember"))
        return new

    def push(self, **refs: str) -> list[str]:
        self.refs |= {f"refs/{'heads' if name == 'main' else 'tags'}/{name}": to for name, to in refs.items()}
        return self.look()


class Knowing:
    """A task instance that can be asked for runs."""

    def __init__(self, source: Source, ti: Any) -> None:
        self.source = source
        self.ti = ti

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ti, name)

    def get_dr_count(self, dag_id: str, run_ids: list[str]) -> int:
        return sum(f"{dag_id} {run_id}" in self.source.confs for run_id in run_ids)

    def get_task_states(self, dag_id: str, task_ids: list[str], run_ids: list[str]) -> dict[str, Any]:
        if task_ids == ["start"]:
            return dict.fromkeys(run_ids, self.source.skipped)
        assert task_ids == ["plan"]
        return {
            run_id: {"plan": "skipped"}
            for run_id in run_ids
            if f"{dag_id} {run_id}" in self.source.superseded
        }


def around(monkeypatch: pytest.MonkeyPatch, made: Source) -> Source:
    """Put a source where the steps look for Airflow and git; each look is later than the last one."""
    monkeypatch.setattr(watching, "Variable", made)
    monkeypatch.setattr(absence, "read_variable", made.get)
    monkeypatch.setattr(sources, "datetime", Clock(made))
    monkeypatch.setattr(watching, "datetime", Clock(made))
    monkeypatch.setattr(git_ref, "look", made.ask)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", made, raising=False)
    return made


class Clock:
    """The clock of the source's Airflow."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def now(self, zone: Any) -> datetime:
        return self.source.at

    def fromisoformat(self, text: str) -> datetime:
        return datetime.fromisoformat(text)


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Source:
    return around(monkeypatch, Source())


def test_what_came_meanwhile_is_not_waited_for(source: Source) -> None:
    """It came while the last changes were taken: a trigger would fire before the scheduler knows that it waits."""
    source.first()
    source.refs["refs/heads/main"] = "b" * 40
    step = WatchOperator(task_id="watch", cursor="cursor", connection="git_shop", url="api.git")
    found = step.execute(source.context(Run(SPEC), "watch"))
    assert found["changes"] == [{"ref": "refs/heads/main", "commit": "b" * 40, "previous": None}]
    assert (found["since"], found["looked"] > found["since"]) == (source.at.isoformat(), True)


def test_nothing_new_is_waited_for_in_the_triggerer(source: Source) -> None:
    """Also where git does not answer: the trigger asks again, and takes no worker."""
    source.first()
    step = WatchOperator(task_id="watch", cursor="cursor", connection="git_shop", url="api.git")
    for source.away in (False, True):
        with pytest.raises(TaskDeferred):
            step.execute(source.context(Run(SPEC), "watch"))


def test_the_first_look_starts_nothing(source: Source) -> None:
    """What was there before is known from then on; the history is not built."""
    source.refs = {MAIN: A, V1: B}
    assert (source.look(), source.seen) == ([], {MAIN: A, V1: B})


def test_the_first_look_is_in_the_ledger(source: Source) -> None:
    """What a rule would take stands there with the command that runs it; what none takes does not."""
    source.refs = {MAIN: A, OLD: C, V1: B}
    entries = [Looked.from_xcom(one) for one in source.first().left("match", "ledger")]
    said = (
        "no run, it existed at the first poll, which starts nothing; to run it: delivery-chain trigger shop"
    )
    assert [(one.ref, one.by, one.since, one.sentence.partition(": ")[2]) for one in entries] == [
        (MAIN, "sensor", None, f"shop (main): {said} --rule main --ref {MAIN}"),
        (V1, "sensor", None, f"shop (release): {said} --rule release --ref {V1}"),
    ]


def test_the_command_of_the_ledger_is_one(source: Source) -> None:
    """A shell and `delivery-chain trigger` read it as it is, also where a ref holds what shells know."""
    odd = "refs/heads/it's;$(id)"
    spec = chain(build={"rules": [{"name": "any", "branch": ".*", "tags": [{"tag": "edge"}]}]})
    (start,) = source_starts([(spec, "api")], ref=odd, commit=A, previous=None)
    words = shlex.split(start.command)
    args = parser_for(words[1:]).parse_args(words[1:])
    conf = Event.from_conf(conf_of(args))
    assert (args.chain, conf.rule, conf.ref) == ("shop", "any", odd)


def test_a_long_history_is_told_in_short(source: Source) -> None:
    """The newest versions are listed, and how many others there are."""
    source.refs = {f"refs/tags/v1.{number}": A for number in range(120)}
    entries = [Looked.from_xcom(one) for one in source.first().left("match", "ledger")]
    assert [one.ref for one in entries] == [f"refs/tags/v1.{number}" for number in range(70, 120)]
    assert [one.why for one in entries if one.why] == ["and 70 more that existed, which are not listed"]


def test_a_push_to_an_empty_source_is_run(source: Source) -> None:
    """A source that was empty at the first look has no history: whatever comes is a push."""
    source.look()
    assert [one.split(" ")[0] for one in source.push(main=A)] == ["shop"]


def test_a_crash_in_the_first_look_loses_nothing(source: Source) -> None:
    """Until all of it is done there is no cursor, so that it is done again."""
    source.refs = {MAIN: A}
    step = WatchOperator(task_id="watch", cursor="cursor", connection="git_shop", url="api.git")
    step.execute(source.context(Run(SPEC), "watch"))
    assert Cursor("cursor").read() is None
    assert len(source.first().left("match", "ledger")) == 1


def test_what_was_pushed_during_the_first_look_is_run(source: Source) -> None:
    """What is remembered is what was looked at: later moves are changes."""
    source.refs = {MAIN: A}
    source.between = None
    step = RememberOperator(task_id="remember", cursor="cursor")
    run = Run(SPEC)
    watch = WatchOperator(task_id="watch", cursor="cursor", connection="git_shop", url="api.git")
    run.leave("watch", watch.execute(source.context(run, "watch")))
    source.refs = {MAIN: B}
    step.execute(source.context(run, "remember"))
    assert [one.split(" ")[0] for one in source.look()] == ["shop"]


def test_a_push_starts_the_rules_that_match(source: Source) -> None:
    """One run per rule and chain, with the event as its conf; other refs start nothing."""
    source.look()
    source.refs = {MAIN: A, OLD: B, V1: C}
    _, found = source.match(source.baseline())
    events = [Event.from_conf(run["conf"]) for run in found]
    assert [(run["trigger_dag_id"], event.rule) for run, event in zip(found, events, strict=True)] == [
        ("shop", "main"),
        ("shop", "release"),
    ]
    assert events[0] == Event(
        kind=Kind.SOURCE_PUSH,
        repository="api",
        rule="main",
        ref=MAIN,
        commit=A,
        pushed_at=source.at,
        seen_at=source.at,
        left=source.at - CLOCKS,
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
    known, _ = source.baseline()
    del source.refs[MAIN]
    source.refs[MAIN] = A
    # The trigger saw it gone between, and waits with what was left.
    later = (source.at + timedelta(seconds=30)).isoformat()
    second = source.look(({ref: commit for ref, commit in known.items() if ref != MAIN}, later))
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


def test_two_chains_may_build_one_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a run of its own for one push."""
    made = around(monkeypatch, Source(SPEC, SPEC.model_copy(update={"name": "shop-two"})))
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


def test_what_webhooks_told_may_be_unreadable(source: Source) -> None:
    """Then nothing was told: the sensor goes on by what it sees and by the runs that there are."""
    source.look()
    source.variables[told_key("cursor")] = "nonsense"
    assert [len(source.push(main=commit)) for commit in (A, B, A)] == [1, 1, 1]


def test_cursors_of_two_sources_are_apart(source: Source) -> None:
    """Each source's Dag has its own."""
    Cursor("one").write("2026-05-20T12:00:00+00:00", {MAIN: A})
    assert Cursor("two").read() is None


def told(source: Source, *seen: tuple[str, timedelta]) -> None:
    """Let a webhook have told that the branch came to commits, so long after the source's time."""
    history = tuple(
        Sighting(commit=commit, before=None, at=source.at + after, told=(("hook/", str(number)),))
        for number, (commit, after) in enumerate(seen)
    )
    source.variables[told_key("cursor")] = Told(refs={MAIN: history}).model_dump_json()


def test_what_a_webhook_told_has_its_run(source: Source) -> None:
    """The sensor gives the push the number that the webhook gave it, and starts nothing."""
    source.look()
    source.push(main=A)
    source.push(main=B)
    told(source, (A, timedelta(seconds=20)))
    start = source_starts(source.chains, ref=MAIN, commit=A, previous=B)[0]
    event = start.event.model_copy(update={"seen_at": source.at + timedelta(seconds=20)})
    source.start(
        [{"trigger_dag_id": start.chain, "trigger_run_id": start.run_id(2), "conf": event.to_conf()}]
    )
    assert (source.push(main=A), len(source.started)) == ([], 3)


def test_a_webhook_that_was_lost_is_made_good(source: Source) -> None:
    """It told B; that the branch went back to A, nobody told: the sensor starts the second run of A."""
    source.look()
    first = source.push(main=A)
    told(source, (B, timedelta(seconds=20)))
    source.refs[MAIN] = A
    source.at += timedelta(minutes=1)
    known, since = source.baseline()
    second = source.look((known | {MAIN: B}, since))
    assert (len(first), len(second), first != second) == (1, 1, True)


@pytest.mark.parametrize(("ended", "runs"), [(timedelta(seconds=-1), 1), (timedelta(days=1), 0)])
def test_a_superseded_run_stands_for_no_push(source: Source, ended: timedelta, runs: int) -> None:
    """A run that found its branch elsewhere before the look built nothing: what is seen is given the next number."""
    source.look()
    (first,) = source.push(main=A)
    source.superseded.add(first)
    source.ended[first] = source.at + ended
    known, since = source.baseline()
    assert len(source.look((dict.fromkeys(known, C), since))) == runs


def test_the_ledger_has_each_change(source: Source) -> None:
    """With its runs, and with the reason where it makes none."""
    source.look()
    source.refs = {MAIN: A, OLD: B}
    run, found = source.match(source.baseline())
    entries = [Looked.from_xcom(one) for one in run.left("match", "ledger")]
    assert [(one.ref, one.by, [each.run_id for each in one.outcomes], one.why) for one in entries] == [
        (MAIN, "sensor", [found[0]["trigger_run_id"]], ""),
        (OLD, "sensor", [], NOTHING),
    ]


def test_images_are_matched_by_their_registry(source: Source) -> None:
    """A tag that moved makes a run of the chain that takes its namespace; the chain's own tags make none."""
    spec = ChainSpec.model_validate(
        {"version": 1, "name": "base", "scope": {"instance": "home", "namespace": "base", "all": True}}
    )
    digest = f"sha256:{'1' * 64}"
    step = WatchImagesOperator(task_id="watch", cursor="cursor", connection="home", namespaces=("base",))
    named = {"name": "base/python", "digest": digest, "previous": None}
    source.variables["cursor"] = json.dumps({"looked": DAY.isoformat(), "refs": {}})
    event = {
        "refs": [named | {"tag": tag} for tag in ("_staging-0123456789ab", "v1")],
        "gone": [],
        "seen": {},
        "since": DAY.isoformat(),
        "looked": DAY.isoformat(),
    }
    run = Run(SPEC)
    run.leave("watch", step._result({}, event))
    match = MatchOperator(task_id="match", images_of="home", specs=[spec], cursor="cursor")
    (found,) = match.execute(source.context(run, "match"))
    conf = Event.from_conf(found["conf"])
    assert (conf.kind, conf.repository, conf.tag, conf.digest) == (Kind.IMAGE_PUSH, "python", "v1", digest)
    assert found["trigger_run_id"] == image_run_id(name="base/python", tag="v1", digest=digest, visit=1)


GARBAGE = [{}, {"seen_at": "garbage"}, {"seen_at": 7}, {"seen_at": "2999-01-01"}, {"ref": [], "commit": {}}]


def squat(source: Source, run: dict[str, Any], conf: dict[str, Any] | None = None) -> None:
    """Let a person start a run under the id of a push's run, with the same conf or another."""
    one = f"{run['trigger_dag_id']} {run['trigger_run_id']}"
    source.confs[one] = run["conf"] if conf is None else conf
    source.persons[one] = "mallory"


@pytest.mark.parametrize("conf", [*GARBAGE, None])
@pytest.mark.parametrize("between", [False, True])
def test_a_taken_id_swallows_no_push(source: Source, conf: dict[str, Any] | None, *, between: bool) -> None:
    """Whoever took the id that the push's run would have: the push has its run under the next one, and just one."""
    source.look()
    source.refs[MAIN] = A
    (first,) = source.match(source.baseline())[1]
    if between:
        source.between = lambda found: [
            squat(source, one, conf) for one in found if one["trigger_run_id"] == first["trigger_run_id"]
        ]
    else:
        squat(source, first, conf)
    looks = [source.look() for _ in range(4)]
    start = source_starts(source.chains, ref=MAIN, commit=A, previous=None)[0]
    assert [one for look in looks for one in look] == [f"{start.chain} {start.run_id(2)}"]
    assert source.seen == {MAIN: A}


def test_taken_ids_of_one_push_do_not_hold_up_another(source: Source) -> None:
    """Of two pushes in one look, the one whose id was taken in between comes again."""
    source.look()
    source.between = lambda found: squat(source, found[0])
    source.refs = {MAIN: A, V1: B}
    first = source.look()
    source.between = None
    second, third = source.look(), source.look()
    assert [len(one) for one in (first, second, third)] == [1, 1, 0]


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
