"""Lets tasks of a run be looked at again that Airflow was done with, as Airflow itself clears a task.

Reads and writes go through the connection that is given, and join its transaction.
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
    """Let the steps that tell what happened before them run again, for a run goes on after its end.

    Args:
        connection: To Airflow's database.
        dag_id: The run's Dag.
        run_id: Its id.
        retries: Of each step, by its task id.
    """
    _reset(connection, dag_id, run_id, TaskInstance.task_id.in_(CLOSING), retries)


def reset(
    connection: Connection, dag_id: str, run_id: str, tasks: Iterable[Task], retries: Mapping[str, int]
) -> None:
    """Let these task instances be looked at again, those left out that are on their way by now."""
    one = TaskInstance
    wanted = [(one.task_id == task.step) & (one.map_index == task.index) for task in tasks]
    if wanted:
        _reset(connection, dag_id, run_id, or_(*wanted), retries)


def note_reopening(
    connection: Connection, dag_id: str, run_id: str, owner: str, tasks: Iterable[Task]
) -> None:
    """Say in Airflow's event log that a run goes on which had ended although it was to go on."""
    extra = json.dumps({"tasks": [task.name for task in tasks]})
    values = {"event": REOPEN, "owner": owner, "dag_id": dag_id, "run_id": run_id, "extra": extra}
    connection.execute(insert(Log).values(dttm=func.now(), **values))


def _reset(
    connection: Connection, dag_id: str, run_id: str, which: ColumnElement[bool], retries: Mapping[str, int]
) -> None:
    """As Airflow clears a task: the try is kept in the history, and `max_tries` starts anew."""
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
    """Keep a task's last try in Airflow's history, where its log is found."""
    now, past = TaskInstance.__table__.c, TaskInstanceHistory.__table__
    names = [column.name for column in past.c if column.name in now and column.name != "task_instance_id"]
    there = exists().where(
        *(past.c[name] == now[name] for name in ("dag_id", "run_id", "task_id", "map_index", "try_number"))
    )
    last = select(now.id, *(now[name] for name in names)).where(now.id == key, ~there)
    connection.execute(insert(past).from_select(["task_instance_id", *names], last))
