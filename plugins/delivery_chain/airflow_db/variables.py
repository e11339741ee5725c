"""Reads Airflow's Variables column by column.

Loading a Variable as an object would register its text with the log filter as a secret to mask in every later line.
That is slow for large texts, and wrong for ours, which contain no secrets.
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
    """The stored text of these Variables by key, and whether it is encrypted."""
    columns = (Variable.key, Variable._val, Variable.is_encrypted)  # noqa: SLF001 - the column
    rows = session.execute(select(*columns).where(Variable.key.in_(sorted(keys)))).all()
    return {key: (text, encrypted) for key, text, encrypted in rows}


def plain(text: str, encrypted: bool) -> str:  # noqa: FBT001 - a column
    """Decrypt the text of a row; empty if its encryption key no longer exists."""
    try:
        return get_fernet().decrypt(text.encode()).decode() if encrypted else text
    except InvalidToken:
        return ""
