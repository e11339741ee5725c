"""The first poll of a source starts nothing, and loses nothing."""

from __future__ import annotations

import shlex

from delivery_chain.commands.main import parser_for
from delivery_chain.commands.trigger import conf_of
from delivery_chain.core.events.event import Event
from delivery_chain.core.events.ledger import Looked
from delivery_chain.core.events.routing import source_starts
from delivery_chain.operators.match import RememberOperator
from delivery_chain.operators.watch import Cursor, WatchOperator
from support.chain_steps import Run, chain
from support.match_source import MAIN, OLD, SPEC, V1, A, B, C, Source


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
