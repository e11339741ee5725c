"""What became of a change that was seen: the runs that it makes, and remembering it only after they were started.

Webhooks tell the same pushes, mostly earlier. A push has one run whoever saw it:
see `delivery_chain.core.events.dedupe`.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from itertools import chain
from typing import TYPE_CHECKING, Any

from delivery_chain.core.events.dedupe import SUPERSEDED, Change, choose, look_at
from delivery_chain.core.events.ledger import DELETED, LEDGER, SENSOR, Entry, Looked, Outcome
from delivery_chain.core.events.refs import natural_key
from delivery_chain.core.events.routing import Start, image_starts, made_by_us, source_starts
from delivery_chain.core.steps import Step, WatchStep
from delivery_chain.core.times import not_after, read_time
from delivery_chain.operators.base import MOST_RUNS, ChainOperator
from delivery_chain.operators.watch import FIRST, Cursor, told_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from delivery_chain.core.events.dedupe import Seen
    from delivery_chain.core.spec.model import ChainSpec

NOTHING = "no build rule matches, or no chain takes it"
IDS_AT_ONCE = 50
FIRST_SHOWN = 50
"""Refs of a first look that the ledger names: the last ones in natural order, so the newest versions."""
BEFORE_US = "it was there at the first look, which starts nothing; to run it: {}"
HANDLED = "handled"
"""XCom of `match`: how many of the changes it took, where it left some for later."""
POSITIONS = "positions"
"""XCom of `match`: the position of the change that each run is for."""


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
        seen = context["ti"].xcom_pull(task_ids=WatchStep.WATCH) or {
            "changes": [],
            "looked": "1970-01-01T00:00:00+00:00",
        }
        told = told_of(self.cursor)
        looked = datetime.fromisoformat(seen["looked"])
        if FIRST in seen:
            return self._first(context, seen[FIRST], looked)
        since = datetime.fromisoformat(seen["since"]) if seen.get("since") else None
        runs: list[dict[str, Any]] = []
        positions: list[int] = []
        ledger: list[Looked] = []
        found = [self._starts(change) for change in seen["changes"]]
        new = _new_to(context["ti"], found)
        for position, (change, starts) in enumerate(zip(seen["changes"], found, strict=True)):
            if runs and len(runs) + len(starts) > MOST_RUNS:
                self.log.info("%d more changes wait for the next look", len(seen["changes"]) - position)
                context["ti"].xcom_push(HANDLED, position)
                break
            places = {"commit": change["commit"], "previous": change["previous"]}
            known = look_at(told.refs.get(change["ref"], ()), Change(**places, looked=looked, since=since))
            # Seen in one look, refs are in natural order: the later one counts as the newer push.
            at = looked + timedelta(microseconds=position)
            made = [{} if start.chain in new else _Made(context["ti"], start, looked) for start in starts]
            entry, more = _decide(change, starts, made, known, at)
            self.log.info("%s", entry.sentence)
            ledger.append(Looked(**dict(entry), since=since))
            runs += more
            positions += [position] * len(more)
        ledger += [_deleted(ref, looked, since) for ref in seen.get("gone", ())]
        context["ti"].xcom_push(POSITIONS, positions)
        context["ti"].xcom_push(LEDGER, [entry.to_xcom() for entry in ledger])
        return runs

    def _first(self, context: Any, there: Mapping[str, str], looked: datetime) -> list[dict[str, Any]]:
        """Start nothing: nobody knows whether what is there was pushed today or years ago. The ledger says how to."""
        found = [
            (ref, starts)
            for ref in sorted(there, key=natural_key)
            if (starts := self._starts({"ref": ref, "commit": there[ref], "previous": None}))
        ]
        shown, left_out = found[-FIRST_SHOWN:], len(found) - FIRST_SHOWN
        more = f"and {left_out} more that were there, which are not listed" if left_out > 0 else ""
        ledger = []
        for at, (ref, starts) in enumerate(shown):
            outcomes = tuple(
                Outcome(chain=one.chain, rule=one.event.rule, why=BEFORE_US.format(one.command))
                for one in starts
            )
            entry = Looked(
                ref=ref,
                commit=there[ref],
                at=looked + timedelta(microseconds=at),
                by=SENSOR,
                outcomes=outcomes,
                why="" if at else more,
            )
            self.log.info("%s", entry.sentence)
            ledger.append(entry.to_xcom())
        context["ti"].xcom_push(POSITIONS, [])
        context["ti"].xcom_push(LEDGER, ledger)
        return []

    def _starts(self, change: Mapping[str, Any]) -> tuple[Start, ...]:
        if self.images_of:
            name, _, tag = change["ref"].rpartition(":")
            found = image_starts(
                self.specs, instance=self.images_of, name=name, tag=tag, digest=change["commit"]
            )
            # A chain that builds has its runs by its sources; its images are its own.
            building = {spec.name for spec in self.specs if spec.build_rules}
            return () if isinstance(found, str) or found[0].chain in building else found
        return source_starts(
            self.chains, ref=change["ref"], commit=change["commit"], previous=change["previous"]
        )


def _deleted(ref: str, looked: datetime, since: datetime | None) -> Looked:
    return Looked(ref=ref, commit="", at=looked, since=since, by=SENSOR, why=DELETED)


def _new_to(ti: Any, found: Sequence[Sequence[Start]]) -> frozenset[str]:
    """The chains that have no run of any of these pushes yet: mostly all, and then nobody asks for each push."""
    ids: dict[str, list[str]] = defaultdict(list)
    for start in chain.from_iterable(found):
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


def _decide(
    change: Mapping[str, Any],
    starts: Sequence[Start],
    made: Sequence[Mapping[int, datetime]],
    known: Seen,
    at: datetime,
) -> tuple[Entry, list[dict[str, Any]]]:
    times = {"pushed_at": min(at, known.first or at), "seen_at": at}
    told = {"left": known.left, "elsewhere": known.elsewhere, "sender": "sensor"}
    runs: list[dict[str, Any]] = []
    outcomes: list[Outcome] = []
    for start, there in zip(starts, made, strict=True):
        visit, is_known = choose(there, known.since)
        run_id = start.run_id(visit)
        outcomes.append(Outcome(chain=start.chain, rule=start.event.rule, run_id=run_id, made=not is_known))
        if not is_known:
            event = start.event.model_copy(update={**times, **told, "delivery_id": run_id})
            runs.append({"trigger_dag_id": start.chain, "trigger_run_id": run_id, "conf": event.to_conf()})
    entry = Entry(
        ref=change["ref"],
        commit=change["commit"],
        before=change["previous"],
        at=at,
        by=SENSOR,
        outcomes=tuple(outcomes),
        why="" if starts else NOTHING,
    )
    return entry, runs


class _Made(dict[int, datetime]):
    """The runs of a start that are there, as `choose` takes them. Asks when asked."""

    def __init__(self, ti: Any, start: Start, looked: datetime) -> None:
        super().__init__()
        self.ti = ti
        self.start = start
        self.looked = looked

    def __contains__(self, visit: object) -> bool:
        assert isinstance(visit, int)  # noqa: S101 - for the type checker
        return bool(self.ti.get_dr_count(dag_id=self.start.chain, run_ids=[self.start.run_id(visit)]))

    def __missing__(self, visit: int) -> datetime:
        dag_id, run_id = self.start.chain, self.start.run_id(visit)
        run = _run(dag_id, run_id)
        if not self.start.made(run.run_type, run.triggering_user_name, run.conf):
            return SUPERSEDED
        if run.end_date and run.end_date < self.looked:
            states = self.ti.get_task_states(dag_id=dag_id, task_ids=[Step.PLAN], run_ids=[run_id])
            if states.get(run_id, {}).get(Step.PLAN) == "skipped":
                return SUPERSEDED
        # No push was seen after its run was made.
        return not_after(read_time(run.conf.get("seen_at")), run.run_after)


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
