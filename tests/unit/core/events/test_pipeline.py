"""The steps between a push and its runs, with an in-memory intake."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_chain.core.events import pipeline
from delivery_chain.core.events.dedupe import AGAIN, SENSED, Change, Move
from delivery_chain.core.events.ledger import DELETED, Entry, StartResult
from delivery_chain.core.events.pipeline import MOST_AT_ONCE, TAKEN, take
from delivery_chain.core.events.push import Push
from delivery_chain.core.events.routing import NO_CHAIN, NO_RULE, Routed, Start, route_image, route_ref
from support.webhook_airflow import DIGEST, MAIN, OTHER_DIGEST, A, B, C, images, spec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from delivery_chain.core.events.event import Event
    from delivery_chain.core.events.history import History
    from delivery_chain.core.events.pipeline import RunsThere
    from delivery_chain.core.spec.model import ChainSpec

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
GIT = Push(ref=MAIN, before="", after=A)
IMAGE = Push.of_image(name="base/python", tag="v1", digest=DIGEST)
FULL = "later"


@dataclass
class Memory:
    """An intake whose Airflow is a few dicts."""

    by: str = "webhook hook"
    delivery_id: str = "one"
    runs: dict[str, Event | None] = field(default_factory=dict)
    """By id; None for those of somebody else."""
    histories: dict[str, History] = field(default_factory=dict)
    room: int = 1000
    broken: bool = False
    """Whether Airflow makes no run."""
    squatters: int = 0
    """Ids that somebody takes at the moment when they are wanted."""
    asked: list[int] = field(default_factory=list)
    """For how many starts runs were looked for, each time."""
    said: datetime | None = None
    specs: tuple[ChainSpec, ...] = field(default_factory=lambda: (spec(),))

    @property
    def facts(self) -> dict[str, Any]:
        return {"sender": self.by, "delivery_id": self.delivery_id}

    def route(self, pushes: Sequence[Push]) -> list[Routed]:
        return [
            route_image(push, [images()], instance="home", at=NOON)
            if push.is_image
            else route_ref(push, [(one, "api") for one in self.specs], place="source", at=NOON)
            for push in pushes
        ]

    def known(self, one: Routed) -> tuple[History, None]:
        return self.histories.get(one.push.ref, ()), None

    def word(self, one: Routed) -> Move | Change:
        after, before = one.push.after, one.push.before
        if self.by == "sensor":
            return Change(commit=after, previous=before, looked=NOON, since=None)
        return Move(before=before, after=after, teller="hook", delivery_id=self.delivery_id, now=NOON)

    def there(self, starts: Sequence[Start]) -> list[RunsThere]:
        self.asked.append(len(starts))
        ids = [{start.run_id(visit): visit for visit in range(1, 30)} for start in starts]
        return [{one[run_id]: run for run_id, run in self.runs.items() if run_id in one} for one in ids]

    def wait(self, one: Routed) -> str:
        return FULL if len(self.runs) + len(one.starts) > self.room else ""

    def make(self, one: Routed, start: Start, run_id: str, event: Event) -> StartResult | None:
        if self.broken:
            return start.result(why="broken")
        if self.squatters:
            self.squatters -= 1
            return None
        assert run_id not in self.runs, one
        self.runs[run_id] = event
        return start.result(run_id=run_id, made=True)

    def remember(self, one: Routed, history: History) -> None:
        self.histories[one.push.ref] = history

    def entry(self, one: Routed) -> Entry:
        return Entry(
            ref=one.push.ref, commit=one.push.after, at=one.at, by=self.by, outcomes=one.outcomes, why=one.why
        )


def id_of(push: Push, visit: int = 1) -> str:
    (start,) = Memory().route([push])[0].starts
    return start.run_id(visit)


def sentences(done: list[Routed]) -> list[str]:
    return [entry.sentence.partition(": ")[2] for entry in pipeline.record(Memory(), done)]


@pytest.mark.parametrize("push", [GIT, IMAGE], ids=["git", "image"])
def test_a_push_is_a_run_once(push: Push) -> None:
    """A ref and an image tag alike; a redelivery names the run."""
    intake = Memory()
    first, again = take(intake, [push])[0], take(intake, [push])[0]
    run_id = id_of(push)
    assert list(intake.runs) == [run_id]
    assert [(one.run_id, one.made) for one in (*first.outcomes, *again.outcomes)] == [
        (run_id, True),
        (run_id, False),
    ]
    assert (first.why, again.why) == ("", AGAIN)


@pytest.mark.parametrize("push", [GIT, IMAGE], ids=["git", "image"])
@pytest.mark.parametrize("first", ["webhook hook", "sensor"])
def test_whoever_sees_it_first(push: Push, first: str) -> None:
    """The other one finds the run; that the sensor was first is news to webhooks alone."""
    intake = Memory(by=first)
    take(intake, [push])
    intake.by = "sensor" if first == "webhook hook" else "webhook hook"
    (found,) = take(intake, [push])
    assert len(intake.runs) == 1
    assert [(one.made, one.why) for one in found.outcomes] == [(False, SENSED if first == "sensor" else "")]


def test_the_event_says_what_is_known() -> None:
    """It is the run's conf."""
    intake = Memory(said=datetime(2026, 11, 23, 11, tzinfo=UTC))
    take(intake, [GIT])
    assert intake.runs == {
        id_of(GIT): Memory()
        .route([GIT])[0]
        .starts[0]
        .event.model_copy(
            update={"sender": "webhook hook", "delivery_id": "one", "seen_at": NOON, "pushed_at": intake.said}
        )
    }


@pytest.mark.parametrize(
    ("push", "why"),
    [
        (Push(ref="refs/heads/other", after=A), NO_RULE),
        (Push.of_image(name="elsewhere/python", tag="v1", digest=DIGEST), NO_CHAIN),
        (Push(ref=MAIN, before=A, after=""), DELETED),
    ],
)
def test_no_run(push: Push, why: str) -> None:
    """Pushes that no chain takes, and deleted refs, are in the ledger with the reason."""
    intake = Memory()
    assert (sentences(take(intake, [push])), intake.runs) == ([why], {})


def test_a_ref_that_moves_twice_in_one_list() -> None:
    """The second move is judged by what came of the first: there and back is three runs."""
    intake = Memory(delivery_id="")
    moves = [GIT, Push(ref=MAIN, before=A, after=B), Push(ref=MAIN, before=B, after=A)]
    take(intake, moves)
    assert list(intake.runs) == [id_of(GIT), id_of(moves[1]), id_of(GIT, 2)]


def test_what_waits_is_not_asked_for() -> None:
    """Once as many runs are made as may be, the rest is answered without a look for runs, and is not remembered."""
    intake = Memory(room=1)
    pushes = [GIT, *(Push(ref=f"refs/tags/v{number}", after=A) for number in range(2 * MOST_AT_ONCE))]
    done = take(intake, pushes)
    assert [one.why for one in done] == ["", *[FULL] * (2 * MOST_AT_ONCE)]
    assert (intake.asked, list(intake.histories)) == ([MOST_AT_ONCE, 0, 0], [MAIN])


def test_what_could_not_be_started_is_not_known() -> None:
    """The same notification, sent again, starts it."""
    intake = Memory(broken=True)
    take(intake, [GIT])
    assert intake.histories == {}
    intake.broken = False
    assert [one.made for one in take(intake, [GIT])[0].outcomes] == [True]


def test_a_known_push_whose_run_was_deleted() -> None:
    """On its way, maybe: the same notification makes one that finds out, once; the other chain's stands."""
    rule = {"name": "other", "branch": "main", "tags": [{"tag": "edge"}]}
    intake = Memory(specs=(spec(), spec("other", build={"rules": [rule]})))
    ((first, second),) = (done.outcomes for done in take(intake, [GIT]))
    del intake.runs[second.run_id]
    again = [take(intake, [GIT])[0].outcomes for _ in range(2)]
    assert [[(one.run_id, one.made) for one in outcomes] for outcomes in again] == [
        [(first.run_id, False), (second.run_id, made)] for made in (True, False)
    ]


@pytest.mark.parametrize(("squatters", "made"), [(1, 2), (15, 16)])
def test_ids_that_are_taken(squatters: int, made: int) -> None:
    """The push has its run under the next id that is free."""
    intake = Memory(squatters=squatters)
    take(intake, [GIT])
    assert list(intake.runs) == [id_of(GIT, made)]


def test_ids_that_are_taken_again_and_again() -> None:
    """It ends, is told, and the next word of the push counts."""
    intake = Memory(squatters=1000)
    (found,) = take(intake, [GIT])
    assert ([one.why for one in found.outcomes], intake.histories) == ([TAKEN], {})


PUSHES = st.lists(
    st.one_of(
        st.builds(
            Push,
            ref=st.sampled_from([MAIN, "refs/tags/v1", "refs/heads/other"]),
            before=st.sampled_from(["", A, B, None]),
            after=st.sampled_from([A, B, C, ""]),
        ),
        st.sampled_from([IMAGE, Push.of_image(name="base/python", tag="v1", digest=OTHER_DIGEST)]),
    ),
    max_size=12,
)


@given(PUSHES, st.integers(0, 12), st.sampled_from(["", "one"]))
def test_one_list_is_as_good_as_two(pushes: list[Push], cut: int, delivery_id: str) -> None:
    """However pushes are parted into lists, each has the same answer."""
    whole, parts = Memory(delivery_id=delivery_id), Memory(delivery_id=delivery_id)
    together = take(whole, pushes)
    apart = [*take(parts, pushes[:cut]), *take(parts, pushes[cut:])]
    assert sentences(together) == sentences(apart)
    assert (whole.runs, whole.histories) == (parts.runs, parts.histories)


@given(PUSHES)
def test_a_redelivery_starts_nothing(pushes: list[Push]) -> None:
    """Whatever it holds, and whatever else comes in between."""
    intake = Memory()
    take(intake, pushes)
    before = dict(intake.runs)
    take(intake, pushes[::-1])
    assert intake.runs == before
