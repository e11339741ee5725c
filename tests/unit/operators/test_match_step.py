from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred

from delivery_chain.core.events.event import Event, Kind, image_run_id
from delivery_chain.core.events.history import CLOCKS, Sighting, Told
from delivery_chain.core.events.ledger import Looked
from delivery_chain.core.events.routing import source_starts
from delivery_chain.core.events.watch_dags import told_key
from delivery_chain.core.spec.model import ChainSpec
from delivery_chain.operators import match as sources
from delivery_chain.operators.match import NOTHING, MatchOperator
from delivery_chain.operators.watch import WatchImagesOperator, WatchOperator
from support.chain_steps import DAY, Run
from support.match_source import MAIN, OLD, SPEC, V1, V2, A, B, C, Source, around


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


def test_two_chains_may_build_one_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a run of its own for one push."""
    made = around(monkeypatch, Source(SPEC, SPEC.model_copy(update={"name": "shop-two"})))
    made.look()
    assert [one.split(" ")[0] for one in made.push(main=A)] == ["shop", "shop-two"]


def test_what_webhooks_told_may_be_unreadable(source: Source) -> None:
    """Then nothing was told: the sensor goes on by what it sees and by the runs that there are."""
    source.look()
    source.variables[told_key("cursor")] = "nonsense"
    assert [len(source.push(main=commit)) for commit in (A, B, A)] == [1, 1, 1]


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
