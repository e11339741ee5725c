"""The two Variables of a watched place: what webhooks told, which only we write, and what the sensor saw."""

from __future__ import annotations

import json
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from airflow.models.crypto import get_fernet
from airflow.models.variable import Variable
from airflow.utils.sqlalchemy import build_upsert_stmt, get_dialect_name
from sqlalchemy import select

from delivery_chain.core.visits import History, Sighting, Told
from delivery_chain.core.watched import told_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.orm import Session

DESCRIPTION = "What webhooks told a delivery chain"


class Record:
    """What webhooks told of one place. Holds its row's lock until the session ends."""

    def __init__(self, session: Session, dag_id: str) -> None:
        """Lock and read.

        Args:
            session: Of the transaction.
            dag_id: The Dag that watches the place.
        """
        key = told_key(dag_id)
        empty = Variable(key=key, val="{}", description=DESCRIPTION)  # type: ignore[no-untyped-call]
        values = {
            "key": key,
            "val": empty._val,  # noqa: SLF001 - as Variable.set does
            "description": DESCRIPTION,
            "is_encrypted": empty.is_encrypted,
        }
        # Locks the row whether it is there or not: Postgres the row, SQLite the database, before anything is read.
        session.execute(
            build_upsert_stmt(
                get_dialect_name(session), Variable, ["key"], values, {"description": DESCRIPTION}
            )
        )
        self._row = session.scalars(select(Variable).where(Variable.key == key)).one()
        self._told = Told.model_validate_json(self._row.val)
        self._seen = cursor(session, dag_id)

    def history(self, ref: str) -> History:
        """What webhooks told of a ref."""
        return self._told.refs.get(ref, ())

    def watched(self, ref: str) -> Sighting | None:
        """Where the sensor saw a ref last; None where it looked at none, gone where it did not see this one."""
        if self._seen is None:
            return None
        looked, refs = self._seen
        return Sighting(commit=refs.get(ref, ""), before=None, at=looked)

    def remember(self, ref: str, history: History) -> None:
        """Keep what is known of a ref from now on."""
        self._told = self._told.with_history(ref, history)

    def write(self) -> None:
        """Put it into the transaction."""
        text = self._told.model_dump_json()
        if text != self._row.val:
            self._row.val = text


def cursor(session: Session, dag_id: str) -> tuple[datetime, Mapping[str, str]] | None:
    """What a watching Dag saw last: when that look began, and every ref with its commit; None before the first."""
    row = session.execute(
        select(Variable._val, Variable.is_encrypted).where(Variable.key == dag_id)  # noqa: SLF001 - the column
    ).one_or_none()
    return _cursor(*row) if row else None


@lru_cache(maxsize=32)
def _cursor(stored: str, encrypted: bool) -> tuple[datetime, Mapping[str, str]]:  # noqa: FBT001 - a column
    """By the stored text: a source with thousands of refs is read once per look, not once per delivery."""
    found = json.loads(get_fernet().decrypt(stored.encode()) if encrypted else stored)
    return datetime.fromisoformat(found["looked"]), found["refs"]
