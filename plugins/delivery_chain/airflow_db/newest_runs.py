"""Lists every chain with its latest run, for the start page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow.models.dag import DagModel, DagTag
from airflow.models.dagrun import DagRun, DagRunNote
from sqlalchemy import func, select

from delivery_chain.airflow_db.session import transaction
from delivery_chain.core.dags import CHAIN_TAG

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Newest:
    """A chain's latest run."""

    run_id: str
    state: str
    """Airflow's state."""
    at: datetime
    note: str = ""
    """The note that the chain or a user wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """One chain of this Airflow."""

    name: str
    description: str = ""
    paused: bool = False
    newest: Newest | None = None


def newest_runs(readable: set[str]) -> list[Chain]:
    """The chains among the Dags that the user may read."""
    tagged = select(DagTag.dag_id).where(DagTag.name == CHAIN_TAG)
    with transaction() as session:
        dags = session.scalars(
            select(DagModel).where(DagModel.dag_id.in_(tagged), ~DagModel.is_stale).order_by(DagModel.dag_id)
        ).all()
        seen = [dag for dag in dags if dag.dag_id in readable]
        newest = select(func.max(DagRun.id)).where(DagRun.dag_id.in_(tagged)).group_by(DagRun.dag_id)
        columns = (DagRun.dag_id, DagRun.run_id, DagRun.state, DagRun.run_after, DagRunNote.content)
        rows = session.execute(
            select(*columns)
            .outerjoin(DagRunNote, DagRunNote.dag_run_id == DagRun.id)
            .where(DagRun.id.in_(newest))
        )
        runs = {
            dag_id: Newest(run_id=run_id, state=str(state), at=at, note=note or "")
            for dag_id, run_id, state, at, note in rows
        }
        return [
            Chain(
                name=dag.dag_id,
                description=dag.description or "",
                paused=bool(dag.is_paused),
                newest=runs.get(dag.dag_id),
            )
            for dag in seen
        ]
