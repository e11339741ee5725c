"""Makes the signing secret before a chain's run begins, and writes a run's summary into its note when it ends.

Runs in the scheduler; the ends of runs that people mark by hand also in the API server.

The run's own database session is used, never a second one: on SQLite a second writer would wait for the
scheduler's transaction, which waits for us. Nothing that fails here may disturb the scheduler.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from airflow.listeners import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.models.dagrun import DagRun
    from sqlalchemy.engine import Connection
    from sqlalchemy.orm import Session

TAG = "delivery-chain"
"""Dags with this tag are chains."""
REPORT_TASK = "report"
AUTHOR = "delivery-chain"
"""The user id of our notes, which tells them from those that people write."""
LONGEST_NOTE = 1000
"""Characters, as Airflow's column takes them."""
log = logging.getLogger(__name__)


@hookimpl
def on_dag_run_running(dag_run: DagRun, msg: str) -> None:
    """Make sure that the steps of a chain's run have a secret to prove with what they leave. Never raises."""
    del msg
    try:
        _in_its_transaction(dag_run, _make_secret)
    except Exception:
        log.warning("The signing secret for run %s was not made", _run_id(dag_run), exc_info=True)


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
        log.warning("The note of run %s was not written", _run_id(dag_run), exc_info=True)


def _run_id(dag_run: DagRun) -> str:
    # Not by attribute: that may ask the database, which is what just failed.
    return str(getattr(dag_run, "__dict__", {}).get("run_id", "?"))


def _note_summary(dag_run: DagRun) -> None:
    if session := _in_its_transaction(dag_run, _note):
        session.expire(dag_run, ["dag_run_note"])


def _in_its_transaction(dag_run: DagRun, do: Callable[[Connection, DagRun], bool]) -> Session | None:
    """Do something on the connection of a chain's run; gives its session where that changed something of the run."""
    from sqlalchemy.orm import object_session  # noqa: PLC0415 - not in every process that loads plugins

    session = object_session(dag_run)
    if session is None:
        return None
    # Statements on the connection flush nothing and trip no guard of the session; they join its transaction.
    connection = session.connection()
    # A failed statement spoils a transaction of Postgres unless it is inside a savepoint. SQLite goes on, and
    # its driver may take the end of an outermost savepoint for a commit.
    savepoint = nullcontext() if connection.dialect.name == "sqlite" else connection.begin_nested()
    with savepoint:
        changed = _is_chain(connection, dag_run) and do(connection, dag_run)
    return session if changed else None


def _make_secret(connection: Connection, dag_run: DagRun) -> bool:
    del dag_run
    from delivery_chain.ledger.signing import make_secret  # noqa: PLC0415

    make_secret(connection)
    return False


def _note(connection: Connection, dag_run: DagRun) -> bool:
    sentence = _sentence(connection, dag_run)
    if sentence:
        _write(connection, dag_run.id, sentence[:LONGEST_NOTE])
    return bool(sentence)


def _is_chain(connection: Connection, dag_run: DagRun) -> bool:
    from airflow.models.dag import DagTag  # noqa: PLC0415
    from sqlalchemy import select  # noqa: PLC0415

    dag: Any = getattr(dag_run, "dag", None)
    if dag is not None:
        return TAG in dag.tags
    wanted = select(DagTag.name).where(DagTag.dag_id == dag_run.dag_id, DagTag.name == TAG)
    return connection.execute(wanted).first() is not None


def _sentence(connection: Connection, dag_run: DagRun) -> str:
    """The note, from what is proven of the run alone: who marks or edits something does not edit the note with it."""
    from delivery_chain.core.closing import note  # noqa: PLC0415
    from delivery_chain.core.gate import Verdict  # noqa: PLC0415
    from delivery_chain.core.results import Record  # noqa: PLC0415
    from delivery_chain.ledger.left import left_in  # noqa: PLC0415

    left = left_in(connection, dag_run.dag_id, dag_run.run_id)
    return note(left.one(REPORT_TASK, Record), left.one("gate", Verdict), left.altered, str(dag_run.state))


def _write(connection: Connection, dag_run_id: int, sentence: str) -> None:
    """Replace our own note of an earlier end of this run, or add one where there is none at all."""
    from airflow.models.dagrun import DagRunNote  # noqa: PLC0415
    from sqlalchemy import update  # noqa: PLC0415

    from delivery_chain.ledger.inserting import insert_or_leave  # noqa: PLC0415

    ours = update(DagRunNote).where(DagRunNote.dag_run_id == dag_run_id, DagRunNote.user_id == AUTHOR)
    if connection.execute(ours.values(content=sentence)).rowcount == 0:
        # A person may write a note at this very moment: theirs stays, and ours raises no IntegrityError.
        connection.execute(
            insert_or_leave(connection, DagRunNote).values(
                dag_run_id=dag_run_id, content=sentence, user_id=AUTHOR
            )
        )
