"""Adding a row to a table of Airflow's where others may add the same one at this very moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import insert
from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection


def insert_or_leave(connection: Connection, table: Any) -> Any:
    """An insert into `table` that does nothing where its unique key is taken: no IntegrityError, no lost row."""
    match connection.dialect.name:
        case "postgresql":
            return postgresql.insert(table).on_conflict_do_nothing()
        case "sqlite":
            return sqlite.insert(table).on_conflict_do_nothing()
        case _:
            return insert(table).prefix_with("IGNORE")
