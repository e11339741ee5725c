"""What became of a change that was seen: the runs that it makes, and remembering it only after they were started.

Webhooks report the same pushes, mostly earlier. A push has one run whoever saw it:
see `delivery_chain.core.events.pipeline`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from delivery_chain.core.events import pipeline
from delivery_chain.core.events.dedupe import Change
from delivery_chain.core.events.event import Kind
from delivery_chain.core.events.ledger import DELETED, SENSOR, Looked
from delivery_chain.core.events.push import Push
from delivery_chain.core.events.refs import natural_key
from delivery_chain.core.events.routing import Routed, made_by_us, route_image, route_ref
from delivery_chain.core.steps import Step, WatchStep
from delivery_chain.core.times import not_after, read_time
from delivery_chain.core.xcom_keys import HANDLED, LEDGER, POSITIONS
from delivery_chain.operators.base import MOST_RUNS, ChainOperator
from delivery_chain.operators.watch import FIRST, Cursor, told_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from delivery_chain.core.events.event import Event
    from delivery_chain.core.events.history import History, Told
    from delivery_chain.core.events.ledger import Entry, Outcome
    from delivery_chain.core.events.pipeline import RunsThere
    from delivery_chain.core.events.routing import Start
    from delivery_chain.core.spec.model import ChainSpec

NOTHING_SEEN: dict[str, Any] = {"changes": [], "looked": "1970-01-01T00:00:00+00:00"}
NOTHING = "no build rule matches, or no chain takes it"
IDS_AT_ONCE = 50
FIRST_SHOWN = 50
"""Refs of a first look that the ledger names: the last ones in natural order, so the newest versions."""
BEFORE_US = "it was there at the first look, which starts nothing; to run it: {}"
LATER = "it waits for the next look"


class MatchOperator(ChainOperator):
    """Turns what changed into runs of chains: `[{trigger_dag_id, trigger_run_id, conf}, …]`."""

    def __init__(
        self,
        *,
        cursor: str,
        chains: Sequence[tuple[ChainSpec, str]] = (),
        images_of: str = "",
        specs: Sequence[ChainSpec] = (),
        **kwargs: Any,
    ) -> None:
        """Take either chains that build a source, or specs that take the images of a registry.

        Args:
            cursor: The Variable with what was seen.
            chains: Each chain with the repository that it builds from the source; twice if the source builds two.
            images_of: Connection of the registry.
            specs: All chains of a namespace of it.
            **kwargs: For BaseOperator.
        """
        super().__init__(**kwargs)
        self.cursor = cursor
        self.chains = chains
        self.images_of = images_of
        self.specs = specs

    def execute(self, context: Any) -> list[dict[str, Any]]:
        """Return one entry per run; the log says of each change why it makes none.

        Changes that would start more than `MOST_RUNS` wait for the next look.
        """
        ti = context["ti"]
        seen = ti.xcom_pull(task_ids=WatchStep.WATCH) or NOTHING_SEEN
        intake = LookIntake(ti, seen, told_of(self.cursor), self.route)
        if FIRST in seen:
            there = sorted(seen[FIRST].items(), key=lambda one: natural_key(one[0]))
            pushes = [self._push(ref, commit, None) for ref, commit in there]
            entries = _first(intake, intake.route(pushes))
        else:
            pushes = [self._push(one["ref"], one["commit"], one["previous"]) for one in seen["changes"]]
            done = pipeline.take(intake, pushes)
            handled = next((at for at, one in enumerate(done) if one.why == LATER), None)
            if handled is not None:
                self.log.info("%d more changes wait for the next look", len(done) - handled)
                ti.xcom_push(HANDLED, handled)
            entries = pipeline.record(intake, done[:handled])
        for entry in entries:
            self.log.info("%s", entry.sentence)
        entries += [intake.deleted(ref) for ref in seen.get("gone", ())]
        ti.xcom_push(POSITIONS, intake.positions)
        ti.xcom_push(LEDGER, [entry.to_xcom() for entry in entries])
        return intake.runs

    def _push(self, ref: str, commit: str, previous: str | None) -> Push:
        kind = Kind.IMAGE_PUSH if self.images_of else Kind.SOURCE_PUSH
        return Push(kind=kind, ref=ref, before=previous, after=commit)

    def route(self, push: Push, at: datetime) -> Routed:
        """The runs of one change."""
        if not self.images_of:
            return route_ref(push, self.chains, place=self.cursor, at=at)
        found = route_image(push, self.specs, instance=self.images_of, at=at)
        # A chain that builds has its runs by its sources. What it publishes itself is here, too, and a task can't ask
        # Airflow's database which of its images are its own, as the receiver of webhooks does.
        building = {spec.name for spec in self.specs if spec.build_rules}
        built = any(start.chain in building for start in found.starts)
        return replace(found, starts=(), why=NOTHING) if built else found


class LookIntake:
    """What one look saw, on its way to runs: an `Intake` of `delivery_chain.core.events.pipeline`.

    The runs are made by the task `start`, from what `match` returns.
    """

    by = SENSOR
    facts: Mapping[str, Any] = {"sender": SENSOR}
    said: datetime | None = None

    def __init__(
        self, ti: Any, seen: Mapping[str, Any], told: Told, route: Callable[[Push, datetime], Routed]
    ) -> None:
        """Take what the task `watch` gave.

        Args:
            ti: The task instance, which can be asked for runs.
            seen: See `watch`.
            told: Moves of the place's refs, as webhooks reported them.
            route: Finds the runs of a change that was seen at a time.
        """
        self.ti = ti
        self.told = told
        self.looked = datetime.fromisoformat(seen["looked"])
        self.since = datetime.fromisoformat(seen["since"]) if seen.get("since") else None
        self.runs: list[dict[str, Any]] = []
        self.positions: list[int] = []
        self._route = route
        self._position: dict[str, int] = {}
        self._waiting: float = math.inf

    def route(self, pushes: Sequence[Push]) -> list[Routed]:
        """Seen in one look, refs are in natural order: the later one counts as the newer push."""
        self._position = {push.ref: at for at, push in enumerate(pushes)}
        routed = [
            self._route(push, self.looked + timedelta(microseconds=at)) for at, push in enumerate(pushes)
        ]
        return [replace(one, why=NOTHING) if one.why else one for one in routed]

    def known(self, one: Routed) -> tuple[History, None]:
        """What webhooks reported; where the sensor saw a ref last is in the change."""
        return self.told.refs.get(one.push.ref, ()), None

    def word(self, one: Routed) -> Change:
        """What changed between two looks."""
        return Change(commit=one.push.after, previous=one.push.before, looked=self.looked, since=self.since)

    def there(self, starts: Sequence[Start]) -> list[RunsThere]:
        """Mostly no run is there, and then nobody asks for each push."""
        new = _new_to(self.ti, starts)
        return [{} if start.chain in new else self._runs_of(start) for start in starts]

    def _runs_of(self, start: Start) -> RunsThere:
        found: dict[int, Event | None] = {}
        visit = 1
        while self.ti.get_dr_count(dag_id=start.chain, run_ids=[start.run_id(visit)]):
            found[visit] = self._event(start, start.run_id(visit))
            visit += 1
        return found

    def _event(self, start: Start, run_id: str) -> Event | None:
        """None also for a run that found its ref elsewhere before the look: the push of now has another one."""
        run = _run(start.chain, run_id)
        if not start.made(run.run_type, run.triggering_user_name, run.conf):
            return None
        if run.end_date and run.end_date < self.looked:
            states = self.ti.get_task_states(dag_id=start.chain, task_ids=[Step.PLAN], run_ids=[run_id])
            if states.get(run_id, {}).get(Step.PLAN) == "skipped":
                return None
        # No push was seen after its run was made.
        seen_at = not_after(read_time(run.conf.get("seen_at")), run.run_after)
        return start.event.model_copy(update={"seen_at": seen_at})

    def wait(self, one: Routed) -> str:
        """The cursor moves over the first changes alone: after one that waits all others do."""
        position = self._position[one.push.ref]
        if self.runs and len(self.runs) + len(one.starts) > MOST_RUNS:
            self._waiting = min(position, self._waiting)
        return LATER if position >= self._waiting else ""

    def make(self, one: Routed, start: Start, run_id: str, event: Event) -> Outcome:
        """Leave it to the task `start`."""
        conf = event.model_copy(update={"delivery_id": run_id}).to_conf()
        self.runs.append({"trigger_dag_id": start.chain, "trigger_run_id": run_id, "conf": conf})
        self.positions.append(self._position[one.push.ref])
        return start.outcome(run_id=run_id, made=True)

    def remember(self, one: Routed, history: History) -> None:
        """Nothing: the task `remember` moves the cursor on, after the runs were started."""

    def entry(self, one: Routed) -> Looked:
        """As this look saw it."""
        return Looked(
            ref=one.push.ref,
            commit=one.push.after,
            before=one.push.before,
            at=one.at,
            by=SENSOR,
            outcomes=one.outcomes,
            why=one.why,
            since=self.since,
        )

    def deleted(self, ref: str) -> Looked:
        """The ledger's line of a ref that is not there any more."""
        return Looked(ref=ref, commit="", at=self.looked, since=self.since, by=SENSOR, why=DELETED)


def _first(intake: LookIntake, routed: Sequence[Routed]) -> list[Entry]:
    """The ledger's lines of a first look, which starts nothing, but says how to.

    Nobody knows whether what is there was pushed today or years ago.
    """
    found = [one for one in routed if one.starts]
    shown, left_out = found[-FIRST_SHOWN:], len(found) - FIRST_SHOWN
    more = f"and {left_out} more that were there, which are not listed" if left_out > 0 else ""
    entries: list[Entry] = []
    for position, one in enumerate(shown):
        outcomes = tuple(start.outcome(why=BEFORE_US.format(start.command)) for start in one.starts)
        at = intake.looked + timedelta(microseconds=position)
        entries.append(intake.entry(replace(one, at=at, outcomes=outcomes, why="" if position else more)))
    return entries


def _new_to(ti: Any, starts: Iterable[Start]) -> frozenset[str]:
    """The chains that have no run of any of these pushes yet."""
    ids: dict[str, list[str]] = defaultdict(list)
    for start in starts:
        ids[start.chain].append(start.run_id(1))
    return frozenset(
        dag_id
        for dag_id, wanted in ids.items()
        # Some at a time: they are a part of the request's address.
        if not any(
            ti.get_dr_count(dag_id=dag_id, run_ids=wanted[first : first + IDS_AT_ONCE])
            for first in range(0, len(wanted), IDS_AT_ONCE)
        )
    )


def _run(dag_id: str, run_id: str) -> Any:
    from airflow.sdk.execution_time.comms import GetDagRun
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

    return SUPERVISOR_COMMS.send(GetDagRun(dag_id=dag_id, run_id=run_id))


class RememberOperator(ChainOperator):
    """Moves the cursor on, after every run was started: a crash before it repeats, and repeats make no second run."""

    def __init__(self, *, cursor: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cursor = cursor

    def execute(self, context: Any) -> None:
        """Write what `watch` saw and `match` took."""
        seen = context["ti"].xcom_pull(task_ids=WatchStep.WATCH)
        known = Cursor(self.cursor).read()
        if seen and FIRST in seen:
            if known is None:
                Cursor(self.cursor).write(seen["looked"], seen[FIRST])
            return
        if known is None:
            # A cursor of just these changes would make every other ref look new, and build all of history.
            self.log.warning("The Variable %s is gone: the next look is a first one", self.cursor)
            return
        if not seen:
            return
        looked, refs = known
        handled = context["ti"].xcom_pull(task_ids=WatchStep.MATCH, key=HANDLED, map_indexes=-1)
        lost = self._lost(context["ti"], context["dag_run"])
        taken = [change for at, change in enumerate(seen["changes"][:handled]) if at not in lost]
        gone = set(seen["gone"])
        moved = {
            **{ref: commit for ref, commit in refs.items() if ref not in gone},
            **{change["ref"]: change["commit"] for change in taken},
        }
        # With changes left over the cursor stands for the older look: they moved after it.
        whole = handled is None and not lost
        Cursor(self.cursor).write(seen["looked"] if whole else seen["since"] or looked, moved)

    def _lost(self, ti: Any, here: Any) -> frozenset[int]:
        """Positions of changes whose run somebody else took the id of, between `match` and `start`.

        They stay changes: the next look gives them the next id.
        """
        states = ti.get_task_states(dag_id=here.dag_id, task_ids=[WatchStep.START], run_ids=[here.run_id])
        found = states.get(here.run_id, {})
        runs = ti.xcom_pull(task_ids=WatchStep.MATCH, map_indexes=-1) or ()
        positions = ti.xcom_pull(task_ids=WatchStep.MATCH, key=POSITIONS, map_indexes=-1) or ()
        lost = set()
        for index, (run, position) in enumerate(zip(runs, positions, strict=False)):
            # What was there already is skipped: mostly, for a try before this one had started it.
            if found.get(f"start_{index}") == "skipped" and not _is_ours(run):
                self.log.warning("Somebody else started %s: the next look tries again", run["trigger_run_id"])
                lost.add(position)
        return frozenset(lost)


def _is_ours(entry: Mapping[str, Any]) -> bool:
    run = _run(entry["trigger_dag_id"], entry["trigger_run_id"])
    return made_by_us(run.run_type, run.triggering_user_name, run.conf, entry["conf"])
