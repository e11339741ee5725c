"""Resets finished tasks of a run, so that Airflow schedules them again, the way Airflow itself clears a task.

Reads and writes use the given connection, and are part of its transaction.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow.models.log import Log
from airflow.models.taskinstance import TaskInstance, uuid7
from airflow.models.taskinstancehistory import TaskInstanceHistory
from sqlalchemy import exists, insert, or_, select, update
from sqlalchemy.sql import func

from delivery_chain.core.run.marks import REOPEN
from delivery_chain.core.steps import CLOSING, DONE, Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy.engine import Connection
    from sqlalchemy.sql import ColumnElement


def reset_closing(connection: Connection, dag_id: str, run_id: str, retries: Mapping[str, int]) -> None:
    """Reset the closing steps of a finished run that resumes, so that they report again.

    Args:
        connection: Connection to Airflow's database.
        dag_id: The run's Dag.
        run_id: The run's id.
        retries: Number of retries by task id.
    """
    _reset(connection, dag_id, run_id, TaskInstance.task_id.in_(CLOSING), retries)


def reset(
    connection: Connection, dag_id: str, run_id: str, tasks: Iterable[Task], retries: Mapping[str, int]
) -> None:
    """Reset these task instances, except those already scheduled or running."""
    one = TaskInstance
    wanted = [(one.task_id == task.step) & (one.map_index == task.index) for task in tasks]
    if wanted:
        _reset(connection, dag_id, run_id, or_(*wanted), retries)


def note_reopening(
    connection: Connection, dag_id: str, run_id: str, owner: str, tasks: Iterable[Task]
) -> None:
    """Record in Airflow's event log that a run which had finished despite cleared tasks resumes."""
    extra = json.dumps({"tasks": [task.name for task in tasks]})
    values = {"event": REOPEN, "owner": owner, "dag_id": dag_id, "run_id": run_id, "extra": extra}
    connection.execute(insert(Log).values(dttm=func.now(), **values))


def _reset(
    connection: Connection, dag_id: str, run_id: str, which: ColumnElement[bool], retries: Mapping[str, int]
) -> None:
    """Reset tasks as Airflow does when it clears them: keep the last try in the history, and raise `max_tries`."""
    one = TaskInstance
    wanted = select(one.id, one.task_id, one.try_number).where(
        one.dag_id == dag_id, one.run_id == run_id, which, one.state.in_(DONE)
    )
    for key, step, tries in connection.execute(wanted).all():
        if tries:
            _remember(connection, key)
        most = tries + retries.get(step, 0)
        values = {"id": uuid7(), "state": None, "max_tries": most, "external_executor_id": None}
        connection.execute(update(one).where(one.id == key).values(**values))


def _remember(connection: Connection, key: Any) -> None:
    """Keep a task's last try in Airflow's history, which makes its log accessible."""
    now, past = TaskInstance.__table__.c, TaskInstanceHistory.__table__
    names = [column.name for column in past.c if column.name in now and column.name != "task_instance_id"]
    there = exists().where(
        *(past.c[name] == now[name] for name in ("dag_id", "run_id", "task_id", "map_index", "try_number"))
    )
    last = select(now.id, *(now[name] for name in names)).where(now.id == key, ~there)
    connection.execute(insert(past).from_select(["task_instance_id", *names], last))
