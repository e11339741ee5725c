"""A chain under webhooks, polls and lost records, as `dedupe` sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

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
