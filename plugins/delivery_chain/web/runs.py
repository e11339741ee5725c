"""Making runs through Airflow's own code, inside the caller's transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow.api_fastapi.common.dagbag import create_dag_bag
from airflow.exceptions import ParamValidationError
from airflow.models.dag import DagModel
from airflow.models.dag_version import DagVersion
from airflow.models.dagrun import DagRun
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from delivery_chain.core.ledger import SENSOR, Outcome
from delivery_chain.core.visits import SENSED, choose
from delivery_chain.ledger.left import left_in_runs
from delivery_chain.listener import AUTHOR
from delivery_chain.senders.base import fields, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

    from delivery_chain.core.event import Event
    from delivery_chain.core.starts import Start

VISITS_AT_ONCE = 16
RECENT = 100
"""Runs that are asked whether they built an image."""
PAUSED = "the Dag is paused: the run waits until somebody unpauses it"
_dag_bag = create_dag_bag()


@dataclass(frozen=True, slots=True)
class Known:
    """A run that is there."""

    seen_at: datetime
    """When its push was seen."""
    sender: str
    delivery_id: str


class Runs:
    """The runs of one delivery."""

    def __init__(self, session: Session, *, by: str, facts: Mapping[str, Any]) -> None:
        """Make none yet.

        Args:
            session: Of the transaction.
            by: Who triggers them, for Airflow's pages.
            facts: Fields of the event that all have in common: actor, sender, delivery_id, pushed_at.
        """
        self.session = session
        self.by = by
        self.facts = facts
        self.made = 0

    def there(self, start: Start) -> dict[int, Known]:
        """The runs of this ref and commit: number of the stay to what is known of it."""
        return _made(self.session, start)

    def find(self, start: Start, there: Mapping[int, Known]) -> Outcome:
        """The newest run of a push that was known before."""
        if not there:
            return _outcome(start, why="a push that was known already, and made no run")
        return _outcome(start, run_id=start.run_id(max(there)))

    def start(
        self, start: Start, there: Mapping[int, Known], *, since: datetime | None, at: datetime
    ) -> Outcome:
        """Make the run, unless it is there.

        Args:
            start: Of what.
            there: The runs that are there, from `there`.
            since: When the ref was last known to be elsewhere, see `delivery_chain.core.visits`.
            at: When the push was seen.
        """
        visit, known = choose({number: one.seen_at for number, one in there.items()}, since)
        run_id = start.run_id(visit)
        if known:
            return _outcome(start, run_id=run_id, why=SENSED if there[visit].sender == SENSOR else "")
        model = self.session.get(DagModel, start.chain)
        dag = self._dag(start.chain) if model else None
        if model is None or model.is_stale or dag is None:
            return _outcome(start, why="Airflow has no such Dag now; the sensor tries again")
        if model.has_import_errors:
            return _outcome(start, why="the Dag's file has import errors; the sensor tries again")
        event = start.event.model_copy(update={**self.facts, "seen_at": at})
        why = PAUSED if model.is_paused else ""
        try:
            # A savepoint: another one of us, or the sensor, may make it at this very moment.
            with self.session.begin_nested():
                self._create(dag, run_id, event, at, why)
        except IntegrityError:
            return _outcome(start, run_id=run_id, why=SENSED)
        except (ParamValidationError, ValueError) as error:
            return _outcome(start, why=f"Airflow refuses the run: {str(error)[:300]}")
        self.made += 1
        return _outcome(start, run_id=run_id, made=True, why=why)

    def _dag(self, dag_id: str) -> Any:
        """The newest version of a Dag, from memory where it was read before: a tenth of what a run costs."""
        version = DagVersion.get_latest_version(dag_id, session=self.session)
        return _dag_bag.get_dag(version.id, session=self.session) if version else None

    def _create(self, dag: Any, run_id: str, event: Event, at: datetime, note: str) -> None:
        run = dag.create_dagrun(
            run_id=run_id,
            run_after=at,
            conf=event.to_conf(),
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.REST_API,
            triggering_user_name=self.by,
            state=DagRunState.QUEUED,
            session=self.session,
        )
        if note:
            run.note = (note[0].upper() + note[1:], AUTHOR)
        self.session.flush()


def built_here(session: Session, chain: str, tag: str, digest: str) -> bool:
    """Whether one of the chain's last runs built an image for a tag: then its publishing is what the registry tells.

    Asked of what is proven alone: nobody makes the receiver overlook a push by editing a run's XComs.
    """
    recent = select(DagRun.run_id).where(DagRun.dag_id == chain).order_by(DagRun.id.desc()).limit(RECENT)
    left = left_in_runs(session, chain, recent.subquery().select(), ("plan", "assemble"))
    return any(
        fields(run.get("assemble"), "digest") == digest
        and tag in (fields(run.get("plan"), "plan.tags") or ())
        for run in left.values()
    )


def _made(session: Session, start: Start) -> dict[int, Known]:
    made: dict[int, Known] = {}
    first = 1
    while True:
        ids = {start.run_id(visit): visit for visit in range(first, first + VISITS_AT_ONCE)}
        wanted = select(DagRun.run_id, DagRun.run_after, DagRun.conf).where(
            DagRun.dag_id == start.chain, DagRun.run_id.in_(ids)
        )
        found = {ids[run_id]: _known(after, conf) for run_id, after, conf in session.execute(wanted)}
        made |= found
        if len(found) < VISITS_AT_ONCE:
            return made
        first += VISITS_AT_ONCE


def _known(run_after: datetime, conf: Any) -> Known:
    said = conf if isinstance(conf, dict) else {}
    seen_at = text(said, "seen_at")
    return Known(
        seen_at=datetime.fromisoformat(seen_at) if seen_at else run_after,
        sender=text(said, "sender"),
        delivery_id=text(said, "delivery_id"),
    )


def _outcome(start: Start, *, run_id: str = "", made: bool = False, why: str = "") -> Outcome:
    return Outcome(chain=start.chain, rule=start.event.rule, run_id=run_id, made=made, why=why)
