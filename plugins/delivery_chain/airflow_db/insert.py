"""Inserts a row into one of Airflow's tables while other processes may insert the same row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import insert
from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


def insert_or_leave(connection: Connection, table: Any) -> Any:
    """Return an insert into `table` that does nothing if the unique key exists already, without an IntegrityError."""
    match connection.dialect.name:
        case "postgresql":
            return postgresql.insert(table).on_conflict_do_nothing()
        case "sqlite":
            return sqlite.insert(table).on_conflict_do_nothing()
        case _:
            return insert(table).prefix_with("IGNORE")
