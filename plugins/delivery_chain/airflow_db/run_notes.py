"""Writes the notes of runs: updates our own, and keeps those that users wrote.

Airflow's form for marking a run resubmits the run's note under the name of the user who marks it, even if the note is
empty or ours. So an empty note counts as unowned, and our notes are also recorded in Airflow's event log, by which
they are recognized.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from airflow.models.dagrun import DagRunNote
from airflow.models.log import Log
from sqlalchemy import insert, select, update

from delivery_chain.airflow_db.insert import insert_or_leave

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Row

AUTHOR = "delivery-chain"
"""User id of our notes."""
EVENT = "delivery-chain note"
"""Name of the event log rows that record our notes."""
LONGEST = 1000
"""Maximum length of a note in Airflow's database, in characters."""
PAUSED = "the Dag is paused: the run waits until it is unpaused"
"""Note of a run created while its Dag is paused; the first letter is capitalized when it is written."""


class Noted(NamedTuple):
    """The fields of a run that its note needs."""

    dag_id: str
    run_id: str
    number: int
    """The run's primary key."""


def is_noted(connection: Connection, run: Noted) -> bool:
    """Whether a run has a non-empty note of ours."""
    row = _row(connection, run)
    return row is not None and bool(row.content) and _is_ours(connection, run, row)


def write(connection: Connection, run: Noted, sentence: str) -> None:
    """Set the run's note, unless a user wrote one."""
    if _row(connection, run) is None:
        # A user may write a note concurrently: the user's note stays, and this insert raises no IntegrityError.
        values = {"dag_run_id": run.number, "content": sentence[:LONGEST], "user_id": AUTHOR}
        connection.execute(insert_or_leave(connection, DagRunNote).values(values))
        _remember(connection, run, sentence[:LONGEST])
    else:
        rewrite(connection, run, sentence)


def rewrite(connection: Connection, run: Noted, sentence: str) -> bool:
    """Replace our own note of a run; return whether it existed."""
    row = _row(connection, run)
    if row is None or not _is_ours(connection, run, row):
        return False
    as_read = (DagRunNote.dag_run_id == run.number, DagRunNote.content.is_not_distinct_from(row.content))
    values = {"content": sentence[:LONGEST], "user_id": AUTHOR}
    done = connection.execute(update(DagRunNote).where(*as_read).values(values))
    if done.rowcount and row.content != values["content"]:
        _remember(connection, run, sentence[:LONGEST])
    return bool(done.rowcount)


def _row(connection: Connection, run: Noted) -> Row[str | None, str | None] | None:
    wanted = select(DagRunNote.content, DagRunNote.user_id).where(DagRunNote.dag_run_id == run.number)
    return connection.execute(wanted).first()


def _is_ours(connection: Connection, run: Noted, row: Row[str | None, str | None]) -> bool:
    content = (row.content or "").strip()
    if not content or row.user_id == AUTHOR or content.lower() == PAUSED.lower():
        return True
    about = (Log.dag_id == run.dag_id, Log.run_id == run.run_id, Log.event == EVENT)
    return content in {str(said).strip() for said in connection.scalars(select(Log.extra).where(*about))}


def _remember(connection: Connection, run: Noted, sentence: str) -> None:
    values = {"event": EVENT, "owner": AUTHOR, "dag_id": run.dag_id, "run_id": run.run_id, "extra": sentence}
    connection.execute(insert(Log).values(values | {"dttm": datetime.now(UTC)}))
