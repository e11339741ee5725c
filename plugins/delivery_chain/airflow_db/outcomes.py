"""Collects the facts of runs from Airflow's database: task states, XComs of the steps, and users' marks and clears.

Reads and writes use the given connection or session, and are part of its transaction.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.log import Log
from airflow.models.taskinstance import TaskInstance
from sqlalchemy import or_, select, update

from delivery_chain.airflow_db.deleted_tasks import deleted_of
from delivery_chain.airflow_db.xcoms import left_in
from delivery_chain.core.gate.judge import Verdict
from delivery_chain.core.plan import Planned
from delivery_chain.core.results import (
    DeliveryResult,
    Published,
    Quarantined,
    Record,
    RegionResult,
    Subject,
)
from delivery_chain.core.run.facts import Facts
from delivery_chain.core.run.marks import MANY, ONE, Mark, Row, marks_of
from delivery_chain.core.spec.slots import label_of, slot_names
from delivery_chain.core.steps import STEPS, Step, Task

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection
    from sqlalchemy.orm import Session

    from delivery_chain.airflow_db.xcoms import Left
    from delivery_chain.core.spec.model import ChainSpec

RENDERED = TaskInstance.__table__.c.rendered_map_index
"""Column with the name of a mapped instance (its rendered map index); NULL until it has one."""
MOST_ROWS = 500
"""Maximum number of event log rows read for one run, newest first."""


def facts_of(
    connection: Session | Connection, dag_id: str, run_id: str, *, state: str = "", left: Left | None = None
) -> Facts | None:
    """Collect all facts of a run; None if the run does not exist.

    Args:
        connection: Connection to Airflow's database.
        dag_id: The run's Dag.
        run_id: The run's id.
        state: The run's state, if the transaction is about to change it; empty to read it from the database.
        left: The XComs of the run's steps, if already read.

    Raises:
        pydantic.ValidationError: Another version of this package wrote the XComs.
    """
    wanted = select(DagRun.state, DagRun.clear_number).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)
    run = connection.execute(wanted).first()
    if run is None:
        return None
    left = left or left_in(connection, dag_id, run_id)
    planned = left.one(Step.PLAN, Planned)
    return Facts(
        state=state or str(run.state),
        held=_held(connection, dag_id),
        tasks=_tasks(connection, dag_id, run_id, left, planned.spec if planned else None),
        deleted=deleted_of(connection, dag_id, run_id),
        altered=left.altered,
        planned=planned,
        subject=left.one(Step.ASSEMBLE, Subject),
        verdict=left.one(Step.GATE, Verdict),
        published=left.one(Step.PUBLISH, Published),
        regions=left.all(Step.REPLICATE, RegionResult),
        deliveries=left.all(Step.DISTRIBUTE, DeliveryResult),
        quarantined=left.one(Step.QUARANTINE, Quarantined),
        record=left.one(Step.REPORT, Record),
        marks=marks_in(connection, dag_id, run_id),
        clears=run.clear_number,
    )


def _held(connection: Session | Connection, dag_id: str) -> str:
    wanted = select(DagModel.is_paused, DagModel.is_stale).where(DagModel.dag_id == dag_id)
    dag = connection.execute(wanted).first()
    if dag is None or dag.is_stale:
        return "its Dag no longer exists: restore the chain's spec"
    return "its Dag is paused: unpause it" if dag.is_paused else ""


def _tasks(
    connection: Session | Connection, dag_id: str, run_id: str, left: Left, spec: ChainSpec | None
) -> tuple[Task, ...]:
    one = TaskInstance
    wanted = select(one.task_id, one.map_index, one.state, RENDERED).where(
        one.dag_id == dag_id, one.run_id == run_id, one.task_id.in_(STEPS)
    )
    tasks = []
    for step, index, state, rendered in connection.execute(wanted):
        reason, error = left.reasons.get((step, index), ("", ""))
        label = label_of(spec, step, index) or rendered or ""
        tasks.append(
            Task(step=step, index=index, state=str(state or ""), label=label, reason=reason, error=error)
        )
    return tuple(sorted(tasks, key=lambda task: (STEPS.index(task.step), task.index)))


def marks_in(connection: Session | Connection, dag_id: str, run_id: str) -> tuple[Mark, ...]:
    """Users' marks and clears of a run that are still in effect."""
    # A request for many runs names them only in its body, so search the logged body, too.
    named = Log.extra.contains(json.dumps(run_id), autoescape=True)
    wanted = (
        select(Log.event, Log.owner, Log.dag_id, Log.task_id, Log.extra)
        .where(
            or_(
                (Log.dag_id == dag_id) & (Log.run_id == run_id) & Log.event.in_(ONE),
                Log.event.in_(MANY) & named,
            )
        )
        .order_by(Log.id.desc())
        .limit(MOST_ROWS)
    )
    rows = [
        Row(event=event, owner=owner or "", dag_id=dag or "", task_id=task or "", extra=extra or "")
        for event, owner, dag, task, extra in connection.execute(wanted)
    ]
    return marks_of(dag_id, run_id, reversed(rows))


def name_instances(connection: Connection, dag_id: str, run_id: str, spec: ChainSpec) -> None:
    """Set the names of mapped instances, which Airflow sets only once they have run."""
    one = TaskInstance
    for step, labels in slot_names(spec).items():
        for index, label in enumerate(labels):
            about = (one.dag_id == dag_id, one.run_id == run_id, one.task_id == step, one.map_index == index)
            unnamed = update(one.__table__).where(*about, RENDERED.is_(None))
            connection.execute(unnamed.values({RENDERED: label}))
