"""Creates runs through Airflow's own code, inside the caller's transaction."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.api_fastapi.common.dagbag import create_dag_bag
from airflow.exceptions import ParamValidationError
from airflow.models.dag import DagModel, DagTag
from airflow.models.dag_version import DagVersion
from airflow.models.dagrun import DagRun
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from delivery_chain.airflow_db.run_notes import AUTHOR, PAUSED
from delivery_chain.airflow_db.xcoms import left_of_image
from delivery_chain.core.dags import CHAIN_TAG
from delivery_chain.core.events.dedupe import SENSED
from delivery_chain.core.events.pipeline import IMPORT_ERRORS, NO_DAG
from delivery_chain.core.steps import Step
from delivery_chain.core.times import not_after, read_time
from delivery_chain.senders.base import fields, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

    from delivery_chain.core.events.event import Event
    from delivery_chain.core.events.ledger import StartResult
    from delivery_chain.core.events.pipeline import RunsThere
    from delivery_chain.core.events.push import Push
    from delivery_chain.core.events.routing import Start

VISITS_AT_ONCE = 16
RECENT = 100
RECENT_OF_ALL = 1000
"""Maximum number of runs to check for having built an image: of one chain, and of all chains."""
_dag_bag = create_dag_bag()


class Runs:
    """The runs of one notification."""

    def __init__(self, session: Session, *, by: str) -> None:
        """Prepare; no run is created yet.

        Args:
            session: Session of the transaction.
            by: The triggering user, for Airflow's pages.
        """
        self.session = session
        self.by = by
        self.made = 0
        self.unready: dict[str, str] = {}
        """Chains whose Dag can't take a run now, with the reason; the push counts when it is redelivered."""

    def there(self, start: Start) -> RunsThere:
        """The existing runs of this ref and commit."""
        return _made(self.session, start)

    def make(self, start: Start, run_id: str, event: Event) -> StartResult | None:
        """Create a run, or return the reason why not; return None if another process took the id at the same time.

        Args:
            start: The run to start.
            run_id: The run's id.
            event: The run's conf.
        """
        model = self.session.get(DagModel, start.chain)
        dag = self._dag(start.chain) if model else None
        if model is None or model.is_stale or dag is None:
            return self._unready(start, NO_DAG)
        if model.has_import_errors:
            return self._unready(start, IMPORT_ERRORS)
        why = PAUSED if model.is_paused else ""
        try:
            # In a savepoint, because another receiver, the sensor or a user may create the same run concurrently.
            with self.session.begin_nested():
                self._create(dag, run_id, event, event.seen_at or datetime.now(UTC), why)
        except IntegrityError:
            found = _look(self.session, start, {run_id: 1})
            return start.result(run_id=run_id, why=SENSED) if found.get(1, event) else None
        except (ParamValidationError, ValueError) as error:
            return start.result(why=f"Airflow refuses the run: {str(error)[:300]}")
        self.made += 1
        return start.result(run_id=run_id, made=True, why=why)

    def _unready(self, start: Start, why: str) -> StartResult:
        self.unready[start.chain] = why
        return start.result(why=why)

    def _dag(self, dag_id: str) -> Any:
        """The latest version of a Dag, cached in memory: reading it is a tenth of the cost of a run."""
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


def built_here(session: Session, chain: str, image: Push, instance: str) -> bool:
    """Whether a run of a chain made the image of a tag, so that the registry's event only reports our own publishing.

    A run makes an image by building it, or by dropping platforms from one. A run that delivers an image pushed by
    others makes none. Runs of all chains are checked: the chain that covers the repository now may not be the one that
    built there, because specs are renamed while runs are in flight. Only proven values count, so that editing a run's
    XComs can't make the receiver ignore a push.
    """
    recent = select(DagRun.id).order_by(DagRun.id.desc())
    of_chains = select(DagTag.dag_id).where(DagTag.name == CHAIN_TAG)
    asked = (
        recent.where(DagRun.dag_id == chain).limit(RECENT),
        recent.where(DagRun.dag_id.in_(of_chains)).limit(RECENT_OF_ALL),
    )
    return any(
        fields(run.get(Step.ASSEMBLE), "digest") == image.after
        and fields(run.get(Step.PLAN), "plan.digest") != image.after
        and image.tag in _list(fields(run.get(Step.PLAN), "plan.tags"))
        and _repository(run.get(Step.PLAN)) == (instance, image.name)
        for run in left_of_image(session, asked, image.after)
    )


def _repository(plan: Any) -> tuple[Any, str]:
    """The registry's connection, and the repository with its namespace."""
    return fields(
        plan, "plan.instance"
    ), f"{fields(plan, 'plan.namespace')}/{fields(plan, 'plan.repository')}"


def _list(found: Any) -> list[Any]:
    return found if isinstance(found, list) else []


def _made(session: Session, start: Start) -> RunsThere:
    made: dict[int, Event | None] = {}
    first = 1
    while True:
        ids = {start.run_id(visit): visit for visit in range(first, first + VISITS_AT_ONCE)}
        found = _look(session, start, ids)
        made |= found
        if len(found) < VISITS_AT_ONCE:
            return made
        first += VISITS_AT_ONCE


def _look(session: Session, start: Start, ids: Mapping[str, int]) -> RunsThere:
    """The runs with these ids, by the number in `ids`: which of the ref's visits to the commit a run is for."""
    columns = DagRun.run_id, DagRun.run_after, DagRun.run_type, DagRun.triggering_user_name, DagRun.conf
    wanted = select(*columns).where(DagRun.dag_id == start.chain, DagRun.run_id.in_(ids))
    return {
        ids[run_id]: _event(start, after, conf) if start.made(kind, user, conf) else None
        for run_id, after, kind, user, conf in session.execute(wanted)
    }


def _event(start: Start, run_after: datetime, conf: Mapping[str, Any]) -> Event:
    """The event of one of our runs, reduced to the fields that are compared with other pushes."""
    said = {
        # A push is always seen before its run is created.
        "seen_at": not_after(read_time(conf.get("seen_at")), run_after),
        "sender": text(conf, "sender"),
        "delivery_id": text(conf, "delivery_id"),
    }
    return start.event.model_copy(update=said)
