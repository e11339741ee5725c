"""Accesses the two Variables of a watched place (a source or registry).

The history of what webhooks reported is read and written here alone; the sensor's cursor is only read.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from airflow.models.variable import Variable
from airflow.utils.sqlalchemy import build_upsert_stmt, get_dialect_name
from sqlalchemy import update

from delivery_chain.airflow_db.variables import plain, stored
from delivery_chain.core.events.history import History, Sighting, Told, utc
from delivery_chain.core.events.watch_dags import told_key

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy.orm import Session

DESCRIPTION = "Webhook history of {}"
MOST_WRITTEN = 16
"""Number of histories cached in memory, at about 0.5 MB each at most: reading one is a tenth of the cost of a push."""
_written: dict[str, tuple[str, Told]] = {}


class RefHistory:
    """The moves of one place's refs, as reported by webhooks. Holds its row's lock until the session ends."""

    def __init__(self, session: Session, dag_id: str) -> None:
        """Lock and read the history.

        Args:
            session: Session of the transaction.
            dag_id: The Dag that watches the place.
        """
        self._session = session
        self._key = told_key(dag_id)
        about = {"description": DESCRIPTION.format(dag_id)}
        values = {"key": self._key, **about, **_stored("{}")}
        # Lock before reading, whether the row exists or not: Postgres locks the row, SQLite the database.
        session.execute(build_upsert_stmt(get_dialect_name(session), Variable, ["key"], values, about))
        found = stored(session, (self._key, dag_id))
        self._was = self._told = _parse(self._key, *found[self._key])
        self._seen = _cursor(*found[dag_id]) if dag_id in found else None

    def told(self, ref: str) -> History:
        """The moves of a ref, as reported by webhooks."""
        return self._told.refs.get(ref, ())

    def watched(self, ref: str) -> Sighting | None:
        """The sensor's last sighting of a ref, marked as gone if the ref was absent; None if it has not polled yet."""
        if self._seen is None:
            return None
        looked, refs = self._seen
        return Sighting(commit=refs.get(ref, ""), before=None, at=looked)

    def remember(self, ref: str, history: History) -> None:
        """Set the history of a ref."""
        self._told = self._told.with_history(ref, history)

    def write(self) -> None:
        """Write the history in the transaction."""
        if self._told == self._was:
            return
        values = _stored(self._told.to_text())
        table = Variable.__table__
        self._session.execute(update(table).where(table.c.key == self._key).values(values))
        _keep(self._key, values["val"], self._told)


def _stored(text: str) -> dict[str, Any]:
    """The columns of a Variable with this text, encrypted if Airflow has a key."""
    made = Variable(val=text)  # type: ignore[no-untyped-call]
    return {"val": made._val, "is_encrypted": made.is_encrypted}  # noqa: SLF001 - as Variable.set does


def _parse(key: str, row: str, encrypted: bool) -> Told:  # noqa: FBT001 - a column
    """Parse the row, or take the result from memory if this process wrote the same text."""
    text, cached = _written.get(key, ("", None))
    return cached if cached and text == row else Told.read(plain(row, encrypted))


def _keep(key: str, row: str, told: Told) -> None:
    if len(_written) >= MOST_WRITTEN:
        _written.clear()
    _written[key] = row, told


@lru_cache(maxsize=4)
def _cursor(row: str, encrypted: bool) -> tuple[datetime, Mapping[str, str]] | None:  # noqa: FBT001 - a column
    """Parse a watching Dag's cursor: the time when its last poll began, and every ref with its commit.

    Return None if a user's edit made it unreadable: the sensor reports that, and webhooks keep working.

    Cached by the stored text: a source with thousands of refs is parsed once per poll, not once per notification.
    """
    try:
        found = json.loads(plain(row, encrypted))
        refs = {ref: commit for ref, commit in found["refs"].items() if isinstance(commit, str)}
        return utc(found["looked"]), refs
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
