"""Turns the sensor's changes into runs, and moves its cursor only after the runs were started.

Webhooks report the same pushes, mostly earlier. A push gets one run either way, see
`delivery_chain.core.events.pipeline`.
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
from delivery_chain.core.events.history import CLOCKS
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

    from airflow.sdk import Context

    from delivery_chain.core.events.event import Event
    from delivery_chain.core.events.history import History, Told
    from delivery_chain.core.events.ledger import Entry, StartResult
    from delivery_chain.core.events.pipeline import RunsThere
    from delivery_chain.core.events.routing import Start
    from delivery_chain.core.spec.model import ChainSpec
    from delivery_chain.operators.task_instance import TaskInstance

NOTHING_SEEN: dict[str, Any] = {"changes": [], "looked": "1970-01-01T00:00:00+00:00"}
NOTHING = "no build rule matches, or no chain takes it"
IDS_AT_ONCE = 50
FIRST_SHOWN = 50
"""Number of refs of a first poll that the ledger lists: the last ones in natural order, and so the newest versions."""
BEFORE_US = "it existed at the first poll, which starts nothing; to run it: {}"
LATER = "it waits for the next poll"


class MatchOperator(ChainOperator):
    """Turns changes into runs of chains: `[{trigger_dag_id, trigger_run_id, conf}, …]`."""

    def __init__(
        self,
        *,
        cursor: str,
        chains: Sequence[tuple[ChainSpec, str]] = (),
        images_of: str = "",
        specs: Sequence[ChainSpec] = (),
        **kwargs: Any,
    ) -> None:
        """Watch either a source, with the chains that build it, or a registry, with the specs that take its images.

        Args:
            cursor: Key of the Variable that holds the sensor's cursor.
            chains: For a source: each chain with a repository that it builds from the source, one pair per repository.
            images_of: For a registry: its connection.
            specs: For a registry: all chains of one of its namespaces.
            **kwargs: Arguments of BaseOperator.
        """
        super().__init__(**kwargs)
        self.cursor = cursor
        self.chains = chains
        self.images_of = images_of
        self.specs = specs

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Return one entry per run; the log lists the runs of each change, or the reason why it gets none.

        Changes that would exceed `MOST_RUNS` wait for the next poll.
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
                self.log.info("%d more changes wait for the next poll", len(done) - handled)
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
        """Find the runs of one change."""
        if not self.images_of:
            return route_ref(push, self.chains, place=self.cursor, at=at)
        found = route_image(push, self.specs, instance=self.images_of, at=at)
        # A chain with build rules runs for its sources only. The images that it publishes appear here, too, but a task
        # can't query Airflow's database to recognize them, as the webhook receiver does.
        building = {spec.name for spec in self.specs if spec.build_rules}
        built = any(start.chain in building for start in found.starts)
        return replace(found, starts=(), why=NOTHING) if built else found


class LookIntake:
    """The sensor's `Intake` of `delivery_chain.core.events.pipeline`, for one poll.

    The task `start` makes the runs from the result of `match`.
    """

    by = SENSOR
    facts: Mapping[str, Any] = {"sender": SENSOR}
    said: datetime | None = None

    def __init__(
        self, ti: TaskInstance, seen: Mapping[str, Any], told: Told, route: Callable[[Push, datetime], Routed]
    ) -> None:
        """Take the result of the task `watch`.

        Args:
            ti: The task instance, for queries about runs.
            seen: Result of `watch`.
            told: Moves of the refs of this source or registry, as webhooks reported them.
            route: Finds the runs of a change that was seen at a given time.
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
        """Route the changes of one poll, which are in natural order; of two changes, the later counts as newer."""
        self._position = {push.ref: at for at, push in enumerate(pushes)}
        routed = [
            self._route(push, self.looked + timedelta(microseconds=at)) for at, push in enumerate(pushes)
        ]
        return [replace(one, why=NOTHING) if one.why else one for one in routed]

    def known(self, one: Routed) -> tuple[History, None]:
        """The moves that webhooks reported, and None: the sensor's last sighting is part of the change itself."""
        return self.told.refs.get(one.push.ref, ()), None

    def word(self, one: Routed) -> Change:
        """The change between two polls."""
        return Change(commit=one.push.after, previous=one.push.before, looked=self.looked, since=self.since)

    def there(self, starts: Sequence[Start]) -> list[RunsThere]:
        """The existing runs of each start. Takes one query per chain in the usual case, in which none exist."""
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
        """The event of a run; None if the run is of another push, or found the ref elsewhere before the poll."""
        run = _run(start.chain, run_id)
        if not start.made(run.run_type, run.triggering_user_name, run.conf):
            return None
        if run.end_date and run.end_date < self.looked:
            states = self.ti.get_task_states(dag_id=start.chain, task_ids=[Step.PLAN], run_ids=[run_id])
            if states.get(run_id, {}).get(Step.PLAN) == "skipped":
                return None
        # A push is always seen before its run is created.
        seen_at = not_after(read_time(run.conf.get("seen_at")), run.run_after)
        return start.event.model_copy(update={"seen_at": seen_at})

    def wait(self, one: Routed) -> str:
        """Postpone the first change that would exceed `MOST_RUNS`, and all after it: the cursor can't skip any."""
        position = self._position[one.push.ref]
        if self.runs and len(self.runs) + len(one.starts) > MOST_RUNS:
            self._waiting = min(position, self._waiting)
        return LATER if position >= self._waiting else ""

    def make(self, one: Routed, start: Start, run_id: str, event: Event) -> StartResult:
        """Queue the run for the task `start`."""
        conf = event.model_copy(update={"delivery_id": run_id}).to_conf()
        self.runs.append({"trigger_dag_id": start.chain, "trigger_run_id": run_id, "conf": conf})
        self.positions.append(self._position[one.push.ref])
        return start.result(run_id=run_id, made=True)

    def remember(self, one: Routed, history: History) -> None:
        """Do nothing: the task `remember` moves the cursor, after the runs were started."""

    def entry(self, one: Routed) -> Looked:
        """The ledger's entry of this poll."""
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
        """The ledger's entry of a deleted ref."""
        return Looked(ref=ref, commit="", at=self.looked, since=self.since, by=SENSOR, why=DELETED)


def _first(intake: LookIntake, routed: Sequence[Routed]) -> list[Entry]:
    """The ledger's entries of a first poll, which starts no runs, but lists the commands that would.

    A first poll can't tell whether a ref was pushed today or years ago.
    """
    found = [one for one in routed if one.starts]
    shown, left_out = found[-FIRST_SHOWN:], len(found) - FIRST_SHOWN
    more = f"and {left_out} more that existed, which are not listed" if left_out > 0 else ""
    entries: list[Entry] = []
    for position, one in enumerate(shown):
        outcomes = tuple(start.result(why=BEFORE_US.format(start.command)) for start in one.starts)
        at = intake.looked + timedelta(microseconds=position)
        entries.append(intake.entry(replace(one, at=at, outcomes=outcomes, why="" if position else more)))
    return entries


def _new_to(ti: TaskInstance, starts: Iterable[Start]) -> frozenset[str]:
    """The chains without a run of any of these pushes."""
    ids: dict[str, list[str]] = defaultdict(list)
    for start in starts:
        ids[start.chain].append(start.run_id(1))
    return frozenset(
        dag_id
        for dag_id, wanted in ids.items()
        # In batches, because the ids are part of the request's URL.
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
    """Moves the cursor after all runs were started. A crash before that starts them again, which has no effect."""

    def __init__(self, *, cursor: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cursor = cursor

    def execute(self, context: Context) -> None:
        """Write the refs that `watch` saw and `match` handled."""
        seen = context["ti"].xcom_pull(task_ids=WatchStep.WATCH)
        known = Cursor(self.cursor).read()
        if seen and FIRST in seen:
            if known is None:
                Cursor(self.cursor).write(seen["looked"], seen[FIRST])
            return
        if known is None:
            # A cursor with these changes alone would make every other ref look new, and build all of history.
            self.log.warning("The Variable %s was deleted: the next poll counts as the first", self.cursor)
            return
        if not seen:
            return
        looked, refs = known
        if datetime.fromisoformat(seen["looked"]) < datetime.fromisoformat(looked) - CLOCKS:
            # A user cleared this task. With the older time the next push of a commit that this ref has been at since
            # would count as the earlier push of it.
            self.log.info("A later poll is remembered: the cursor stays as it is")
            return
        handled = context["ti"].xcom_pull(task_ids=WatchStep.MATCH, key=HANDLED, map_indexes=-1)
        lost = self._lost(context["ti"], context["dag_run"])
        taken = [change for at, change in enumerate(seen["changes"][:handled]) if at not in lost]
        gone = set(seen["gone"])
        moved = {
            **{ref: commit for ref, commit in refs.items() if ref not in gone},
            **{change["ref"]: change["commit"] for change in taken},
        }
        # While changes are pending, keep the time of the earlier poll: the refs moved after it.
        whole = handled is None and not lost
        Cursor(self.cursor).write(seen["looked"] if whole else seen["since"] or looked, moved)

    def _lost(self, ti: TaskInstance, here: Any) -> frozenset[int]:
        """Positions of the changes whose run ids another client took between `match` and `start`.

        These changes stay pending, and the next poll gives them the next id.
        """
        states = ti.get_task_states(dag_id=here.dag_id, task_ids=[WatchStep.START], run_ids=[here.run_id])
        found = states.get(here.run_id, {})
        runs = ti.xcom_pull(task_ids=WatchStep.MATCH, map_indexes=-1) or ()
        positions = ti.xcom_pull(task_ids=WatchStep.MATCH, key=POSITIONS, map_indexes=-1) or ()
        lost = set()
        for index, (run, position) in enumerate(zip(runs, positions, strict=False)):
            # An existing run is skipped, usually because an earlier try had started it.
            if found.get(f"start_{index}") == "skipped" and not _is_ours(run):
                self.log.warning(
                    "Run %s was started by another client: the next poll tries another id",
                    run["trigger_run_id"],
                )
                lost.add(position)
        return frozenset(lost)


def _is_ours(entry: Mapping[str, Any]) -> bool:
    run = _run(entry["trigger_dag_id"], entry["trigger_run_id"])
    return made_by_us(run.run_type, run.triggering_user_name, run.conf, entry["conf"])
