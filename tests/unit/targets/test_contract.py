"""The contract of targets, defined in targets/interface.py: every kind passes it, with real servers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from delivery_chain.core.results import Attempt, AttemptOutcome
from delivery_chain.core.spec.connections import TARGET_CONNECTIONS
from delivery_chain.errors import ConfigurationError
from delivery_chain.targets.interface import Probe, Settled
from delivery_chain.targets.table import TARGETS
from support.orders import order
from support.scripted_target import ROW, ScriptedTarget
from support.target_benches import BENCHES, Bench, Says

if TYPE_CHECKING:
    from collections.abc import Iterator

ORDER = order()
LONGEST_ANSWER = 512
"""Characters of an answer in the record: the attempts of a run go through Airflow's database."""


@pytest.fixture(params=sorted(TARGETS))
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """One of each kind in the table."""
    with BENCHES[request.param]() as found:
        yield found


def test_each_kind_is_held_to_the_contract() -> None:
    """The table and the benches name the same kinds."""
    assert set(BENCHES) == set(TARGETS)


@pytest.mark.parametrize("kind", sorted(TARGETS))
def test_each_kind_loads(kind: str) -> None:
    """Its name leads to a class with what the port has."""
    found = TARGETS.load(kind)
    assert [
        name for name in ("connection_type", "of", "probe", "deliver", "settled") if not hasattr(found, name)
    ] == []


def test_each_kind_has_its_type_of_connection() -> None:
    """Specs know it without loading the class."""
    assert {kind: TARGETS.load(kind).connection_type for kind in TARGETS} == TARGET_CONNECTIONS


def test_a_kind_that_is_registered_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row is all that it takes."""
    monkeypatch.setitem(TARGETS, "scripted", ROW)
    assert TARGETS.load("scripted") is ScriptedTarget


def test_an_unknown_kind_is_refused() -> None:
    """With the kinds that exist, and what to correct."""
    with pytest.raises(ConfigurationError) as caught:
        TARGETS.load("pigeon")
    assert str(caught.value) == "target 'pigeon': expected one of webhook; correct the trigger in the spec"


def test_an_order_is_delivered_once(bench: Bench) -> None:
    """Under its id; the attempt says when, for which tag and how long."""
    began = datetime.now(UTC)
    found = bench.target.deliver(ORDER, ())
    assert (found.outcome, found.tag, found.after, found.advice) == (AttemptOutcome.DONE, "v1.2", None, None)
    assert (began <= found.at <= datetime.now(UTC), found.seconds >= 0) == (True, True)
    assert bench.ids() == [ORDER.id]


def test_a_repeated_order_has_the_same_id(bench: Bench) -> None:
    """A receiver that keeps ids takes both for one, also when the answer to the first was lost."""
    bench.will(Says.NOTHING)
    first = bench.target.deliver(ORDER, ())
    second = bench.target.deliver(ORDER, (first,))
    assert (first.outcome, second.outcome) == (AttemptOutcome.LATER, AttemptOutcome.DONE)
    assert set(bench.ids()) == {ORDER.id}


@pytest.mark.parametrize(
    ("says", "outcome", "after"),
    [
        (Says.NO, AttemptOutcome.REFUSED, None),
        (Says.ELSEWHERE, AttemptOutcome.REFUSED, None),
        (Says.BUSY, AttemptOutcome.LATER, None),
        (Says.BUSY_FOR_7_S, AttemptOutcome.LATER, 7.0),
        (Says.FAILED, AttemptOutcome.LATER, None),
        (Says.NOTHING, AttemptOutcome.LATER, None),
        (Says.DRIPPING, AttemptOutcome.DONE, None),
    ],
)
def test_answers_are_sorted(bench: Bench, says: Says, outcome: AttemptOutcome, after: float | None) -> None:
    """Refused for good, later, or done; no answer is an exception, and one that never ends is left."""
    bench.will(says)
    found = bench.target.deliver(ORDER, ())
    assert (found.outcome, found.after, len(bench.ids())) == (outcome, after, 1)
    assert bool(found.advice) is (outcome is AttemptOutcome.REFUSED)
    assert len(found.answer) <= LONGEST_ANSWER


def test_a_redirect_is_not_followed(bench: Bench) -> None:
    """It would take the order and its proof to another server."""
    bench.will(Says.ELSEWHERE)
    bench.target.deliver(ORDER, ())
    assert bench.led_astray() == 0


def test_no_secret_is_shown(bench: Bench) -> None:
    """Neither by the target, nor by an attempt whose answer repeats what was sent."""
    bench.will(Says.NO_WITH_SECRETS)
    found = bench.target.deliver(ORDER, ())
    shown = f"{bench.target!r} {bench.target.shown_url} {found!r} {found} {found.to_xcom()}"
    assert [secret for secret in bench.secrets if secret in shown] == []


def test_an_attempt_goes_through_xcom(bench: Bench) -> None:
    """What a later try reads is what came of the earlier one."""
    bench.will(Says.BUSY_FOR_7_S)
    found = bench.target.deliver(ORDER, ())
    assert Attempt.from_xcom(found.to_xcom()) == found


def test_a_probe_delivers_nothing(bench: Bench) -> None:
    """It says whether the target can be reached, without its secrets."""
    found = bench.target.probe()
    assert (type(found), found.good, bench.ids()) == (Probe, True, [])
    assert [secret for secret in bench.secrets if secret in found.sentence] == []


def test_asking_for_the_end_delivers_nothing(bench: Bench) -> None:
    """It may be asked again and again."""
    bench.target.deliver(ORDER, ())
    ends = [bench.target.settled(ORDER) for _ in range(2)]
    assert all(end is None or isinstance(end, Settled) for end in ends)
    assert bench.ids() == [ORDER.id]
