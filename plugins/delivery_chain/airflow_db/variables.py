"""Airflow's Variables by their columns.

A Variable that Airflow loads gives its text to the log's filter, as a secret to look for in every line from then on:
slow with large texts, and wrong, for ours hold none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.models.crypto import get_fernet
from airflow.models.variable import Variable
from cryptography.fernet import InvalidToken
from sqlalchemy import select

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.engine import Connection
    from sqlalchemy.orm import Session


def stored(session: Session | Connection, keys: Iterable[str]) -> dict[str, tuple[str, bool]]:
    """What is in the rows of these Variables, by their keys: the text, and whether it is encrypted."""
    columns = (Variable.key, Variable._val, Variable.is_encrypted)  # noqa: SLF001 - the column
    rows = session.execute(select(*columns).where(Variable.key.in_(sorted(keys)))).all()
    return {key: (text, encrypted) for key, text, encrypted in rows}


def plain(text: str, encrypted: bool) -> str:  # noqa: FBT001 - a column
    """The text of a row; nothing where it was encrypted with a key that is gone."""
    try:
        return get_fernet().decrypt(text.encode()).decode() if encrypted else text
    except InvalidToken:
        return ""
