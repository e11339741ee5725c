"""Pushes that are reported late, twice, or after their runs were deleted: no tag moves back to an older push."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import event as note
from hypothesis import given, settings
from hypothesis import strategies as st

from delivery_chain.core.events.built import (
    COMMIT,
    REF,
    Origin,
    annotations_of,
    came_back,
    is_again,
    may_move,
    same_push,
)
from delivery_chain.core.events.dedupe import SUPERSEDED, Change, Move, choose, judge, look_at
from delivery_chain.core.events.event import Event, Kind
from delivery_chain.core.events.history import History, Sighting, Told
from delivery_chain.core.plan import Plan, make_plan, select, tags_of
from delivery_chain.errors import EventRefused
from support.chain_steps import chain

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
MAIN, V1, V2, V3 = "refs/heads/main", "refs/tags/v1.0", "refs/tags/v2.0", "refs/tags/v3.0"
A, B, C = (letter * 40 for letter in "abc")
SPEC = chain(
    build={
        "rules": [
            {"name": "main", "branch": "main", "tags": [{"tag": "edge"}, {"tag": "main", "commit_id": 6}]},
            {"name": "release", "tag": "v(?<n>.*)", "tags": [{"tag": "v${n}"}, {"tag": "latest"}]},
        ],
        "timezone": "UTC",
    }
)


@dataclass
class Run:
    """A run on its way: not planned yet, planned, or at its end."""

    conf: Event
    run_id: str
    visit: int
    after: datetime
    plan: Plan | None = None
    ended: bool = False
    superseded: bool = False
    waits: bool = False


@dataclass
class Chain:
    """A chain with its receiver, its sensor, its runs and its registry."""

    now: datetime = NOON
    refs: dict[str, str] = field(default_factory=dict)
    told: dict[str, History] = field(default_factory=dict)
    cursor: tuple[dict[str, str], datetime] = field(default_factory=lambda: ({}, NOON))
    runs: list[Run] = field(default_factory=list)
    moves: list[tuple[str, str, str]] = field(default_factory=list)
    """Every true move: ref, before and after."""
    sighted: dict[tuple[str, str], datetime] = field(default_factory=dict)
    """When a ref was first told or seen at a commit; of releases, which stay where they are."""
    tags: dict[str, tuple[str, dict[str, str]]] = field(default_factory=dict)
    """What each tag holds: the image, and its annotations."""
    charts: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    """What each tag has held: annotations, in turn."""
    images: int = 0
    ids: int = 0

    def push(self, ref: str, commit: str) -> None:
        self.moves.append((ref, self.refs.get(ref, ""), commit))
        self.refs[ref] = commit

    def tell(self, move: int, *, teller: str = "hook", delivery: str = "") -> None:
        ref, before, after = self.moves[move]
        self.ids += 1
        seen, looked = self.cursor
        watched = Sighting(commit=seen.get(ref, ""), before=None, at=looked)
        said = Move(
            before=before, after=after, teller=teller, delivery_id=delivery or f"new{self.ids}", now=self.now
        )
        sensed = [
            one.conf.seen_at
            for one in self.of(ref, after)
            if one.conf.sender == "sensor" and one.conf.seen_at
        ]
        judged = judge(self.told.get(ref, ()), said, watched, max(sensed, default=None))
        self.told[ref] = judged.history
        self.sighted.setdefault((ref, after), self.now)
        if judged.fresh:
            at = judged.at or self.now
            times = {"seen_at": at, "pushed_at": min(at, judged.first or at), "left": judged.left}
            self._start(ref, after, judged.since, before=before, elsewhere=judged.elsewhere, **times)

    def look(self) -> None:
        seen, since = self.cursor
        between = Told(refs=self.told).between(self.refs, since=since, looked=self.now)
        for position, (ref, commit) in enumerate(sorted(self.refs.items())):
            known = between.get(ref, seen.get(ref, ""))
            if known == commit:
                continue
            change = Change(commit=commit, previous=known, looked=self.now, since=since)
            push = look_at(self.told.get(ref, ()), change)
            at = self.now + timedelta(microseconds=position)
            self.sighted.setdefault((ref, commit), self.now)
            times = {"seen_at": at, "pushed_at": min(at, push.first or at), "left": push.left}
            more = {"before": known, "sender": "sensor", "elsewhere": push.elsewhere}
            self._start(ref, commit, push.since, **more, **times)
        self.cursor = dict(self.refs), self.now

    def of(self, ref: str, commit: str) -> list[Run]:
        return [one for one in self.runs if (one.conf.ref, one.conf.commit) == (ref, commit)]

    def _start(self, ref: str, commit: str, since: datetime | None, *, before: str, **conf: Any) -> None:
        made = {}
        for one in self.of(ref, commit):
            void = one.superseded and conf.get("sender") == "sensor"
            made[one.visit] = SUPERSEDED if void else one.conf.seen_at or one.after
        visit, there = choose(made, since)
        if not there:
            rule = "main" if ref == MAIN else "release"
            said = {"kind": Kind.SOURCE_PUSH, "repository": "api", "rule": rule, "ref": ref, "commit": commit}
            about = Event.model_validate(said | {"previous": before} | conf)
            self.runs.append(Run(about, f"{ref}@{commit}#{visit}", visit, self.now))

    def by_hand(self, ref: str, commit: str = "") -> None:
        self.ids += 1
        about = Event.model_validate({"ref": ref, "commit": commit})
        run = Run(about, f"manual{self.ids}", 0, self.now)
        self.runs.append(run)
        self.work(run)
        self.work(run)

    def work(self, run: Run) -> None:
        """Do the run's next step, as the steps do: plan it, or build and publish it."""
        if run.ended:
            return
        if run.plan is None:
            run.waits = self._waits(run)
            run.plan = self._planned(run)
            run.ended = run.plan is None and not run.waits
            run.superseded = run.ended
            return
        self.images += 1
        image = f"sha256:{self.images}"
        said = annotations_of(run.plan)
        for tag in run.plan.tags:
            if tag not in self.tags or may_move(run.plan, self.tags[tag][1], self.now):
                self.tags[tag] = image, said
                self.charts.setdefault(tag, []).append(said)
        run.ended = True

    def _waits(self, run: Run) -> bool:
        left = run.conf.left
        return run.conf.kind is Kind.SOURCE_PUSH and any(
            not one.ended
            and one.visit < run.visit
            and one.conf.kind is Kind.SOURCE_PUSH
            and (left is None or (one.conf.seen_at or one.after) > left)
            for one in self.of(run.conf.ref, run.conf.commit)
        )

    def _planned(self, run: Run) -> Plan | None:
        if run.waits:
            return None
        selection = select(SPEC, run.conf)
        present = self.refs.get(run.conf.ref, "")
        try:
            plan = make_plan(SPEC, selection, run.conf, run_id=run.run_id, now=run.after, present=present)
        except EventRefused:
            return None
        origins = self._origins(selection, plan, (run.conf.previous,))
        image = same_push(plan, run.conf.left, origins)
        before = (run.conf.previous, *run.conf.elsewhere)
        if image and run.conf.elsewhere:
            origins = self._origins(selection, plan, before)
            image = same_push(plan, run.conf.left, origins)
        if image and is_again(plan, run.conf, image):
            run.waits = any(not one.ended for commit in before for one in self.of(run.conf.ref, commit))
            return None
        if image:
            return plan.model_copy(update={"pushed_at": min(plan.pushed_at, image.pushed_at)})
        back = came_back(plan, origins)
        if not back:
            return plan
        seen = max(plan.seen_at or back, back + timedelta(microseconds=1))
        return plan.model_copy(update={"pushed_at": max(plan.pushed_at, back), "seen_at": seen})

    def _origins(self, selection: Any, plan: Plan, commits: tuple[str, ...]) -> list[Origin]:
        tags = set(plan.tags)
        for commit in filter(None, commits):
            tags |= set(tags_of(SPEC, selection, commit=commit, pushed_at=plan.pushed_at))
        held = [self.tags[tag] for tag in sorted(tags) if tag in self.tags]
        return [origin for image, said in held if (origin := Origin.read(image, said, self.now))]

    def settle(self) -> None:
        """Two looks, and every run to its end."""
        for _ in range(2):
            self.now += timedelta(seconds=300)
            self.look()
            while open_ := [run for run in self.runs if not run.ended]:
                for run in open_:
                    self.work(run)

    def clean(self, *, forget: bool) -> None:
        """Forget the runs, and what webhooks told: when a push was first seen is known from its image or the sensor."""
        self.runs.clear()
        if forget:
            self.told.clear()
            built = {(said[REF], said[COMMIT]) for _, said in self.tags.values()}
            seen, looked = self.cursor
            kept = {push: at for push, at in self.sighted.items() if push in built}
            self.sighted = dict.fromkeys(seen.items(), looked) | kept

    @property
    def latest(self) -> list[datetime]:
        """When each push that `latest` has stood for was first told or seen."""
        return [self.sighted[said[REF], said[COMMIT]] for said in self.charts.get("latest", [])]


ACTIONS = st.one_of(
    st.tuples(st.just("release"), st.integers(0, 2)),
    st.tuples(st.just("push"), st.sampled_from([A, B, C])),
    st.tuples(st.just("tell"), st.integers(0, 9)),
    st.tuples(st.just("tell again"), st.integers(0, 9)),
    st.tuples(st.just("other hook"), st.integers(0, 9)),
    st.tuples(st.sampled_from(["look", "clean", "all told again"]), st.just(0)),
    st.tuples(st.sampled_from(["work", "work", "work", "cancel", "clear", "by hand"]), st.integers(0, 9)),
    st.tuples(st.just("older"), st.sampled_from([A, B, C])),
)


def play(  # noqa: C901, PLR0912 - a table
    actions: list[tuple[str, Any]], *, forget: bool = False, shop: Chain | None = None
) -> Chain:
    """A chain after what happened to it, a while between each two."""
    shop = shop or Chain()
    for what, which in actions:
        shop.now += timedelta(seconds=47)
        moves, runs = len(shop.moves), len(shop.runs)
        if what == "release" and (V1, V2, V3)[which] not in shop.refs:
            shop.push((V1, V2, V3)[which], "def"[which] * 40)
        elif what == "push" and shop.refs.get(MAIN) != which:
            shop.push(MAIN, which)
        elif what == "tell" and moves:
            shop.tell(which % moves, delivery=f"d{which % moves}")
        elif what == "tell again" and moves:
            shop.tell(which % moves)
        elif what == "other hook" and moves:
            shop.tell(which % moves, teller="other", delivery=f"o{which % moves}")
        elif what == "all told again":
            for move in range(moves):
                shop.tell(move)
        elif what == "look":
            shop.look()
        elif what == "settle and clean":
            shop.settle()
            shop.clean(forget=forget)
        elif what == "clean":
            shop.clean(forget=forget)
        elif what == "work" and runs:
            shop.work(shop.runs[which % runs])
        elif what == "cancel" and runs:
            shop.runs[which % runs].ended = True
        elif what == "clear" and runs:
            run = shop.runs[which % runs]
            run.plan, run.ended = None, False
        elif what == "by hand" and shop.refs:
            ref = sorted(shop.refs)[which % len(shop.refs)]
            shop.sighted.setdefault((ref, shop.refs[ref]), shop.now)
            shop.by_hand(ref)
        elif what == "older" and MAIN in shop.refs and (MAIN, which) in [one[::2] for one in shop.moves]:
            shop.by_hand(MAIN, which)
    return shop


@settings(max_examples=400, deadline=None)
@given(st.lists(ACTIONS, max_size=40), st.booleans())
def test_latest_never_goes_back(actions: list[tuple[str, Any]], forget: bool) -> None:  # noqa: FBT001 - Hypothesis'
    """Whatever is told, forgotten, cancelled, cleared and built again: never from a release to one seen before it."""
    shop = play(actions, forget=forget)
    note(f"{len(shop.latest)} moves")
    assert shop.latest == sorted(shop.latest)
    shop.settle()
    assert shop.latest == sorted(shop.latest)


@pytest.mark.parametrize("forgotten", ["runs", "what webhooks told, too", "what the sensor saw, too"])
def test_nothing_is_built_that_was_built_before(forgotten: str) -> None:
    """Releases and pushes are out; their runs are forgotten, and all is told again under new ids, twice."""
    shop = Chain()
    for number, (ref, commit) in enumerate(
        [(V1, "d" * 40), (MAIN, A), (V2, "e" * 40), (MAIN, B), (V3, "f" * 40)]
    ):
        shop.now += timedelta(seconds=200)
        shop.push(ref, commit)
        shop.tell(number)
        shop.settle()
    before, built = dict(shop.tags), shop.images
    for _ in range(2):
        shop.runs.clear()
        if forgotten != "runs":
            shop.told.clear()
        if forgotten == "what the sensor saw, too":
            # Its next look is a first one, which starts nothing.
            shop.cursor = dict(shop.refs), shop.now
        for move in range(len(shop.moves)):
            shop.now += timedelta(seconds=3)
            shop.tell(move)
        shop.settle()
    assert (shop.images, shop.tags) == (built, before) == (5, before)


PUSHES = st.lists(
    st.one_of(
        st.tuples(st.just("release"), st.integers(0, 2)),
        st.tuples(st.just("push"), st.sampled_from([A, B, C])),
    ),
    max_size=8,
)
AGAIN = st.lists(st.one_of(st.integers(0, 9), st.sampled_from(["look", "settle"])), max_size=12)


@settings(max_examples=400, deadline=None)
@given(PUSHES, AGAIN, st.sampled_from(["runs", "told", "seen"]))
def test_whatever_is_told_again_builds_nothing(
    pushes: list[tuple[str, Any]], again: list[Any], forgotten: str
) -> None:
    """Everything is out and forgotten; then old moves are told under new ids, some of them, in whatever order."""
    shop = Chain()
    for push in pushes:
        before = len(shop.moves)
        shop = play([push], shop=shop)
        for move in range(before, len(shop.moves)):
            shop.tell(move)
        shop.settle()
    built, tags = shop.images, dict(shop.tags)
    shop.runs.clear()
    if forgotten != "runs":
        shop.told.clear()
    if forgotten == "seen":
        shop.cursor = dict(shop.refs), shop.now
    for what in again:
        shop.now += timedelta(seconds=3)
        if what == "look":
            shop.look()
        elif what == "settle":
            shop.settle()
        elif shop.moves:
            shop.tell(what % len(shop.moves))
    shop.settle()
    assert (shop.images, shop.tags) == (built, tags)


WITHOUT_HARM = ACTIONS.filter(lambda action: action[0] not in {"cancel", "clean"})


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(WITHOUT_HARM, st.just(("settle and clean", 0))), max_size=40), st.booleans())
def test_a_tag_ends_where_its_branch_is(actions: list[tuple[str, Any]], forget: bool) -> None:  # noqa: FBT001
    """Told late, twice, by two webhooks or by none: the branch's tag holds its last commit, and so do the releases'."""
    shop = play(actions, forget=forget)
    shop.settle()
    held = {tag: said[COMMIT] for tag, (_, said) in shop.tags.items()}
    expected = {"edge": shop.refs[MAIN]} if MAIN in shop.refs else {}
    expected |= {ref.removeprefix("refs/tags/"): commit for ref, commit in shop.refs.items() if ref != MAIN}
    assert {tag: held.get(tag) for tag in expected} == expected
