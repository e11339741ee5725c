"""One push, one run, in whatever order moves are told and polled."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from support.dedupe_ref import COMMITS, Ref, at

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime


@dataclass
class World:
    """A ref's true moves, and what is told and seen of them: `(time, what)` in the order in which it arrives."""

    moves: list[tuple[str, str, float]]
    arrivals: list[tuple[float, str, Any]]
    lost: set[int]

    def position(self, when: datetime) -> str:
        """Where the ref truly is."""
        past = [after for _, after, moved in self.moves if at(moved) <= when]
        return past[-1] if past else self.moves[0][0]


@st.composite
def worlds(draw: st.DrawFn, *, lose: bool, disorder: bool, tellers: int = 1, looks: int = 6) -> World:
    path = [draw(st.sampled_from(["", *COMMITS]))]
    for _ in range(draw(st.integers(1, 6))):
        path.append(draw(st.sampled_from([one for one in ("", *COMMITS) if one != path[-1]])))
    times = [float(100 * (number + 1)) for number in range(len(path) - 1)]
    moves = list(zip(path, path[1:], times, strict=False))
    arrivals: list[tuple[float, str, Any]] = []
    lost: set[int] = set()
    for number, (_, _, time) in enumerate(moves):
        for teller in range(tellers):
            if lose and draw(st.booleans()):
                lost.add(number)
                continue
            longest = (600 if disorder else 40, 600)[: draw(st.integers(1, 2))]
            late = [draw(st.integers(0, most)) + 0.1 * (teller + 1) for most in longest]
            arrivals += [(time + one, "hook", (number, teller)) for one in late]
    seen = draw(st.lists(st.integers(0, 800), max_size=looks))
    arrivals += [(time + 0.5, "look", None) for time in seen]
    arrivals.sort(key=lambda one: one[0])
    return World(moves, arrivals, lost)


def live(world: World, taken: Iterable[tuple[str, int]] = ()) -> Ref:
    """Play a world, with two looks at its end; some ids of its runs are taken by somebody else."""
    ref = Ref(position=world.position, taken=set(taken))
    ref.looks(world.moves[0][0], at(-1))
    for time, what, about in [*world.arrivals, (5000.0, "look", None), (5030.0, "look", None)]:
        if what == "hook":
            number, teller = about
            before, after, _ = world.moves[number]
            ref.hears(before, after, now=at(time), delivery=f"{number}", teller=f"t{teller}")
        else:
            ref.looks(world.position(at(time)), at(time))
    return ref


def test_a_push_after_a_doubtful_one_is_found_by_the_sensor() -> None:
    """Two webhooks that each lose deliveries, of a branch that goes to and fro: the last push has its run."""
    ways = [("", "a"), ("a", "b"), ("b", "a"), ("a", "b"), ("b", "a"), ("a", "b")]
    moves = [(before, after, 100.0 * (number + 1)) for number, (before, after) in enumerate(ways)]
    reports = [(100.2, 0, 1), (200.1, 1, 0), (200.2, 1, 1), (300.1, 2, 0), (400.2, 3, 1), (500.2, 4, 1)]
    arrivals = [(time, "hook", (number, teller)) for time, number, teller in reports]
    world = World(moves, sorted([*arrivals, (400.5, "look", None)], key=lambda one: one[0]), {5})
    assert live(world).built[-2:] == ["a", "b"]


@settings(max_examples=400, deadline=None)
@given(worlds(lose=False, disorder=False))
def test_in_order_each_push_has_just_one_run(world: World) -> None:
    """Whatever is delivered twice, and whenever the sensor looks."""
    ref = live(world)
    assert Counter(ref.built) == Counter(after for _, after, _ in world.moves if after)


@settings(max_examples=1000, deadline=None)
@given(worlds(lose=True, disorder=True, tellers=2))
def test_what_is_built_last_is_what_the_ref_points_at(world: World) -> None:
    """With deliveries lost, late and out of order. A run whose ref moved on before it began builds nothing."""
    ref = live(world)
    built = [commit for commit, when in ref.made if world.position(when) == commit]
    event(f"{len(built)} built")
    assert (built or [world.moves[0][0]])[-1:] == [world.moves[-1][1]] or not world.moves[-1][1]


ids = st.sets(st.tuples(st.sampled_from(COMMITS), st.integers(1, 4)))


@settings(max_examples=1000, deadline=None)
@given(worlds(lose=True, disorder=True, tellers=2), ids)
def test_taken_ids_swallow_no_push(world: World, taken: set[tuple[str, int]]) -> None:
    """Whoever takes whichever ids first: the same pushes have runs, at the same moments, under ids that are free."""
    free, squatted = live(world), live(world, taken)
    assert squatted.made == free.made
    assert not taken & squatted.runs.keys()


@settings(max_examples=400, deadline=None)
@given(worlds(lose=True, disorder=False, looks=0))
def test_a_lost_delivery_adds_no_run(world: World) -> None:
    """Lost deliveries cost runs of pushes that were gone before the sensor looked, and never make one too many."""
    ref = live(world)
    pushed = Counter(after for _, after, _ in world.moves if after)
    assert Counter(ref.built) <= pushed
