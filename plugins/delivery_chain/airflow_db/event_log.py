"""Writes the ledger's entries into Airflow's event log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.models.log import Log
from sqlalchemy import insert

from delivery_chain.core.events.ledger import EVENT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from delivery_chain.core.events.ledger import Entry

MOST_ROWS = 500
"""Maximum number of event log rows per notification and place."""


def log_entries(session: Session, dag_id: str | None, entries: Sequence[Entry]) -> None:
    """Add one row per entry.

    Args:
        session: Session of the transaction.
        dag_id: The Dag whose readers may see the rows; None for changes that belong to no Dag.
        entries: Only the first `MOST_ROWS` are written.
    """
    if not entries:
        return
    rows = [
        {
            "dttm": entry.at,
            "dag_id": dag_id,
            "event": EVENT,
            "owner": entry.by,
            "extra": entry.model_dump_json(exclude_defaults=True),
        }
        for entry in entries[:MOST_ROWS]
    ]
    session.execute(insert(Log), rows)
