"""Writes a run's summary into its note when the run ends. Runs in the scheduler.

The run's own database session is used, never a second one: on SQLite a second writer would wait for the
scheduler's transaction, which waits for us. Nothing that fails here may disturb the scheduler.
"""

from __future__ import annotations

import json
import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from airflow.listeners import hookimpl

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from sqlalchemy.engine import Connection

TAG = "delivery-chain"
"""Dags with this tag are chains."""
REPORT_TASK = "report"
AUTHOR = "delivery-chain"
"""The user id of our notes, which tells them from those that people write."""
LONGEST_NOTE = 1000
"""Characters, as Airflow's column takes them."""
log = logging.getLogger(__name__)


@hookimpl
def on_dag_run_success(dag_run: DagRun, msg: str) -> None:
    """Note the run's summary."""
    del msg
    note_summary(dag_run)


@hookimpl
def on_dag_run_failed(dag_run: DagRun, msg: str) -> None:
    """Note the run's summary, also of a run that was blocked."""
    del msg
    note_summary(dag_run)


def note_summary(dag_run: DagRun) -> None:
    """Make the report's sentence the run's note, unless it has one. Never raises."""
    try:
        _note_summary(dag_run)
    except Exception:
        # Not by attribute: that may ask the database, which is what just failed.
        run_id = getattr(dag_run, "__dict__", {}).get("run_id", "?")
        log.warning("The note of run %s was not written", run_id, exc_info=True)


def _note_summary(dag_run: DagRun) -> None:
    from sqlalchemy.orm import object_session  # noqa: PLC0415 - not in every process that loads plugins

    session = object_session(dag_run)
    if session is None:
        return
    # Statements on the connection flush nothing and trip no guard of the session; they join its transaction.
    connection = session.connection()
    # A failed statement spoils a transaction of Postgres unless it is inside a savepoint. SQLite goes on, and
    # its driver may take the end of an outermost savepoint for a commit.
    savepoint = nullcontext() if connection.dialect.name == "sqlite" else connection.begin_nested()
    with savepoint:
        sentence = _sentence(connection, dag_run) if _is_chain(connection, dag_run) else ""
        if sentence:
            _write(connection, dag_run.id, sentence[:LONGEST_NOTE])
    if sentence:
        session.expire(dag_run, ["dag_run_note"])


def _is_chain(connection: Connection, dag_run: DagRun) -> bool:
    from airflow.models.dag import DagTag  # noqa: PLC0415
    from sqlalchemy import select  # noqa: PLC0415

    dag: Any = getattr(dag_run, "dag", None)
    if dag is not None:
        return TAG in dag.tags
    wanted = select(DagTag.name).where(DagTag.dag_id == dag_run.dag_id, DagTag.name == TAG)
    return connection.execute(wanted).first() is not None


def _sentence(connection: Connection, dag_run: DagRun) -> str:
    from airflow.models.xcom import XCOM_RETURN_KEY, XComModel  # noqa: PLC0415
    from sqlalchemy import select  # noqa: PLC0415

    value = connection.execute(
        select(XComModel.value).where(
            XComModel.dag_run_id == dag_run.id,
            XComModel.task_id == REPORT_TASK,
            XComModel.map_index == -1,
            XComModel.key == XCOM_RETURN_KEY,
        )
    ).scalar()
    report = json.loads(value) if isinstance(value, str) else value
    sentence = report.get("sentence") if isinstance(report, dict) else None
    return sentence.strip() if isinstance(sentence, str) else ""


def _write(connection: Connection, dag_run_id: int, sentence: str) -> None:
    """Replace our own note of an earlier end of this run, or add one where there is none at all."""
    from airflow.models.dagrun import DagRunNote  # noqa: PLC0415
    from sqlalchemy import update  # noqa: PLC0415

    ours = update(DagRunNote).where(DagRunNote.dag_run_id == dag_run_id, DagRunNote.user_id == AUTHOR)
    if connection.execute(ours.values(content=sentence)).rowcount == 0:
        # A person may write a note at this very moment: theirs stays, and ours raises no IntegrityError.
        connection.execute(
            _insert_or_leave(connection).values(dag_run_id=dag_run_id, content=sentence, user_id=AUTHOR)
        )


def _insert_or_leave(connection: Connection) -> Any:
    from airflow.models.dagrun import DagRunNote  # noqa: PLC0415
    from sqlalchemy import insert  # noqa: PLC0415
    from sqlalchemy.dialects import postgresql, sqlite  # noqa: PLC0415

    match connection.dialect.name:
        case "postgresql":
            return postgresql.insert(DagRunNote).on_conflict_do_nothing()
        case "sqlite":
            return sqlite.insert(DagRunNote).on_conflict_do_nothing()
        case _:
            return insert(DagRunNote).prefix_with("IGNORE")
