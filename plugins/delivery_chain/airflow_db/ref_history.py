"""The two Variables of a watched place: what webhooks reported, which only we write, and what the sensor saw."""

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

DESCRIPTION = "What webhooks told of {}"
MOST_WRITTEN = 16
"""Places whose text is kept in memory, some 0.5 MB each at most: reading it is a tenth of what a push costs."""
_written: dict[str, tuple[str, Told]] = {}


class RefHistory:
    """Moves of one place's refs, as webhooks reported them. Holds its row's lock until the session ends."""

    def __init__(self, session: Session, dag_id: str) -> None:
        """Lock and read.

        Args:
            session: Of the transaction.
            dag_id: The Dag that watches the place.
        """
        self._session = session
        self._key = told_key(dag_id)
        about = {"description": DESCRIPTION.format(dag_id)}
        values = {"key": self._key, **about, **_stored("{}")}
        # Locks the row whether it is there or not: Postgres the row, SQLite the database, before anything is read.
        session.execute(build_upsert_stmt(get_dialect_name(session), Variable, ["key"], values, about))
        found = stored(session, (self._key, dag_id))
        self._was = self._told = _told(self._key, *found[self._key])
        self._seen = _cursor(*found[dag_id]) if dag_id in found else None

    def told(self, ref: str) -> History:
        """Moves of a ref, as webhooks reported them."""
        return self._told.refs.get(ref, ())

    def watched(self, ref: str) -> Sighting | None:
        """The ref as the sensor saw it last; None where it looked at none, gone where it did not see this one."""
        if self._seen is None:
            return None
        looked, refs = self._seen
        return Sighting(commit=refs.get(ref, ""), before=None, at=looked)

    def remember(self, ref: str, history: History) -> None:
        """Keep what is known of a ref from now on."""
        self._told = self._told.with_history(ref, history)

    def write(self) -> None:
        """Put it into the transaction."""
        if self._told == self._was:
            return
        values = _stored(self._told.to_text())
        table = Variable.__table__
        self._session.execute(update(table).where(table.c.key == self._key).values(values))
        _keep(self._key, values["val"], self._told)


def _stored(text: str) -> dict[str, Any]:
    """The columns of a Variable with this text, encrypted where Airflow has a key."""
    made = Variable(val=text)  # type: ignore[no-untyped-call]
    return {"val": made._val, "is_encrypted": made.is_encrypted}  # noqa: SLF001 - as Variable.set does


def _told(key: str, row: str, encrypted: bool) -> Told:  # noqa: FBT001 - a column
    """What is in the row; from memory, where this process wrote this very text."""
    text, told = _written.get(key, ("", None))
    return told if told and text == row else Told.read(plain(row, encrypted))


def _keep(key: str, row: str, told: Told) -> None:
    if len(_written) >= MOST_WRITTEN:
        _written.clear()
    _written[key] = row, told


@lru_cache(maxsize=4)
def _cursor(row: str, encrypted: bool) -> tuple[datetime, Mapping[str, str]] | None:  # noqa: FBT001 - a column
    """What a watching Dag saw last: when that look began, and every ref with its commit.

    None where somebody made it unreadable by hand: the sensor says so, and webhooks go on.

    By the stored text: a source with thousands of refs is read once per look, not once per notification.
    """
    try:
        found = json.loads(plain(row, encrypted))
        refs = {ref: commit for ref, commit in found["refs"].items() if isinstance(commit, str)}
        return utc(found["looked"]), refs
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
