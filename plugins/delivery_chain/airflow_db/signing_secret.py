"""The installation's signing secret as Airflow's servers have it: the scheduler makes it, the web server reads it.

It is a Variable: encrypted with Airflow's Fernet key, masked in pages, and for role `op` and above.
"""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING

from airflow.configuration import ensure_secrets_loaded
from airflow.models.crypto import get_fernet
from airflow.models.variable import Variable
from airflow.secrets.metastore import MetastoreBackend

from delivery_chain.airflow_db.insert import insert_or_leave
from delivery_chain.airflow_db.variables import plain, stored
from delivery_chain.core.seal import SIGNING_SECRET

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection
    from sqlalchemy.orm import Session

SECRET_BYTES = 32
log = logging.getLogger(__name__)


def stored_secret(connection: Session | Connection) -> str:
    """The secret as tasks are given it: from a secrets backend where one has it, else from the Variable.

    Returns:
        Empty where there is none: then nothing is believed.
    """
    return _elsewhere() or _variable(connection)


def make_secret(connection: Connection) -> None:
    """Make the secret where there is none, in the caller's transaction: of two that do it at once, one is kept."""
    if stored(connection, [SIGNING_SECRET]) or _elsewhere():
        return
    fernet = get_fernet()
    text = fernet.encrypt(secrets.token_hex(SECRET_BYTES).encode()).decode()
    connection.execute(
        insert_or_leave(connection, Variable).values(
            key=SIGNING_SECRET,
            val=text,
            is_encrypted=fernet.is_encrypted,
            description="With it chains prove what their steps leave for each other. Deleted, it is made anew, "
            "and runs on their way have to be cleared from their plan on.",
        )
    )


def _variable(connection: Session | Connection) -> str:
    rows = stored(connection, [SIGNING_SECRET])
    return plain(*rows[SIGNING_SECRET]) if rows else ""


def _elsewhere() -> str:
    """What Airflow's other secrets backends say, which are asked before the database."""
    for backend in ensure_secrets_loaded():
        # Its own way of reading ends the caller's transaction.
        if isinstance(backend, MetastoreBackend):
            continue
        try:
            found = backend.get_variable(key=SIGNING_SECRET)
        except Exception:
            # Airflow itself goes on with the next one, too.
            log.warning("%s was not asked for the signing secret", type(backend).__name__, exc_info=True)
            continue
        if found:
            return str(found)
    return ""
