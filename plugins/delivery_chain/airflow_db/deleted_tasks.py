"""Tasks of a run that somebody deleted, in the UI or over REST: Airflow never makes them anew by itself.

What follows such a task waits for it for ever, and Airflow does not see that the run is stuck while a task of it has a
limit of its own, as `publish` does. Source: airflow issue 71540.
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
    """The steps of a run that have no task instance at all, in their order."""
    one = TaskInstance
    wanted = select(one.task_id).where(one.dag_id == dag_id, one.run_id == run_id).distinct()
    there = set(connection.scalars(wanted))
    return tuple(step for step in STEPS if step not in there)


def make_anew(connection: Connection, dag_run: DagRun) -> tuple[str, ...]:
    """Give a run that begins or goes on the tasks that it lacks, as Airflow made them at first.

    Mapped ones are left to Airflow, which expands them again.

    Returns:
        Their ids.
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
