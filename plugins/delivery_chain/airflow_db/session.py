"""Sessions of Airflow's database."""

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
    """A session of its own, which commits at its end, or rolls back where something was raised."""
    with create_session(scoped=False) as session:
        yield session


def ping() -> None:
    """Ask the database for nothing.

    Raises:
        SQLAlchemyError: It does not answer.
    """
    with transaction() as session:
        session.execute(text("SELECT 1"))
