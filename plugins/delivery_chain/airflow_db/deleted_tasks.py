"""Restores tasks of a run that a user deleted in the UI or over REST. Airflow itself never recreates them.

Tasks downstream of a deleted one wait forever, and Airflow does not detect the deadlock while a task of the run has
its own concurrency limit, as `publish` does. Source: airflow issue 71540.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.models.taskinstance import TaskInstance
from sqlalchemy import insert, select

from delivery_chain.core.steps import STEPS

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from sqlalchemy.engine import Connection
    from sqlalchemy.orm import Session


def deleted_of(connection: Session | Connection, dag_id: str, run_id: str) -> tuple[str, ...]:
    """The steps of a run that have no task instance, in step order."""
    one = TaskInstance
    wanted = select(one.task_id).where(one.dag_id == dag_id, one.run_id == run_id).distinct()
    there = set(connection.scalars(wanted))
    return tuple(step for step in STEPS if step not in there)


def restore(connection: Connection, dag_run: DagRun) -> tuple[str, ...]:
    """Recreate the missing tasks of a run that starts or resumes, as Airflow first created them.

    The instances of mapped tasks are left to Airflow, which expands such tasks again.

    Returns:
        Ids of the restored tasks.
    """
    dag = dag_run.dag
    if dag is None:
        return ()
    lacking = deleted_of(connection, dag_run.dag_id, dag_run.run_id)
    made = [step for step in lacking if dag.has_task(step) and not dag.get_task(step).is_mapped]
    columns = {name: column.columns[0] for name, column in TaskInstance.__mapper__.column_attrs.items()}
    for step in made:
        values = TaskInstance.insert_mapping(
            dag_run.run_id,
            dag.get_task(step),
            map_index=-1,
            dag_version_id=dag_run.created_dag_version_id,
            dag_run=dag_run,
        )
        row = {columns[name]: value for name, value in values.items() if name in columns}
        connection.execute(insert(TaskInstance.__table__).values(row))
    return tuple(made)
