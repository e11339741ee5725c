"""Reads facts of this Airflow for `delivery-chain doctor`; each raises SQLAlchemyError if the database is down."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow.jobs.job import Job
from airflow.models.connection import Connection
from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.pool import Pool
from airflow.models.taskinstance import TaskInstance
from sqlalchemy import func, select

from delivery_chain.airflow_db.session import transaction
from delivery_chain.airflow_db.signing_secret import stored_secret

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class Process:
    """One of Airflow's processes, as known from its latest job."""

    host: str
    alive: bool
    heard_of: datetime | None
    """Time of its last heartbeat."""


@dataclass(frozen=True, slots=True)
class DagRow:
    """A Dag known to Airflow."""

    has_import_errors: bool
    is_paused: bool


def connections() -> dict[str, str]:
    """Map the ids of the connections in Airflow's database to their types."""
    with transaction() as session:
        rows = session.execute(select(Connection.conn_id, Connection.conn_type)).all()
    return {str(name): (conn_type or "").replace("-", "_") for name, conn_type in rows}


def dialect_and_time() -> tuple[str, datetime | None]:
    """The kind of database, and its current time; None for SQLite, which is a local file without a clock of its own."""
    with transaction() as session:
        kind = session.get_bind().dialect.name
        now: datetime = session.execute(select(func.current_timestamp())).scalar_one()
    if kind == "sqlite":
        return kind, None
    return kind, now if now.tzinfo else now.replace(tzinfo=UTC)


def processes(job_types: Collection[str]) -> dict[str, Process]:
    """The latest job of each type, by type; types that never ran are omitted."""
    found: dict[str, Process] = {}
    with transaction() as session:
        for job_type in job_types:
            newest = session.scalar(
                select(Job).where(Job.job_type == job_type).order_by(Job.latest_heartbeat.desc()).limit(1)
            )
            if newest is not None:
                found[job_type] = Process(str(newest.hostname), newest.is_alive(), newest.latest_heartbeat)
    return found


def dag_rows(dag_ids: Collection[str]) -> dict[str, DagRow]:
    """The Dags with these ids that Airflow has and does not consider stale, by id."""
    with transaction() as session:
        models = session.scalars(select(DagModel).where(DagModel.dag_id.in_(dag_ids), ~DagModel.is_stale))
        return {one.dag_id: DagRow(bool(one.has_import_errors), bool(one.is_paused)) for one in models}


def failing_dags(dag_ids: Collection[str]) -> set[str]:
    """Ids of the Dags whose latest run failed, or waits for a retry."""
    with transaction() as session:
        return _failing(session, dag_ids)


def _failing(session: Session, dag_ids: Collection[str]) -> set[str]:
    newest = select(func.max(DagRun.id)).where(DagRun.dag_id.in_(dag_ids)).group_by(DagRun.dag_id)
    failed = select(DagRun.dag_id).where(DagRun.id.in_(newest), DagRun.state == "failed")
    same = (DagRun.dag_id == TaskInstance.dag_id) & (DagRun.run_id == TaskInstance.run_id)
    waiting = select(TaskInstance.dag_id).join(DagRun, same)
    waiting = waiting.where(DagRun.id.in_(newest), TaskInstance.state == "up_for_retry")
    return {*session.scalars(failed), *session.scalars(waiting)}


def pool_slots(name: str) -> int | None:
    """Number of slots of a pool; None if it does not exist."""
    with transaction() as session:
        return session.scalar(select(Pool.slots).where(Pool.pool == name))


def signing_secret() -> str:
    """The installation's signing secret; empty if it has not been created yet."""
    with transaction() as session:
        return stored_secret(session)
