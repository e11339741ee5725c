"""Opens sessions of Airflow's database."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow.utils.session import create_session
from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session


@contextmanager
def transaction() -> Iterator[Session]:
    """Open a session that commits at its end, or rolls back on an exception."""
    with create_session(scoped=False) as session:
        yield session


def ping() -> None:
    """Check that the database responds.

    Raises:
        SQLAlchemyError: The database does not respond.
    """
    with transaction() as session:
        session.execute(text("SELECT 1"))
