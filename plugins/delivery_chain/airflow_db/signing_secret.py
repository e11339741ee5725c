"""Stores the installation's signing secret: the scheduler creates it, and the web server reads it.

The secret is a Variable: encrypted with Airflow's Fernet key, masked in pages, and readable by role `op` and above.
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
    """Read the secret as tasks do: from a secrets backend if one has it, otherwise from the Variable.

    Returns:
        The secret; empty if it does not exist, in which case no sealed value is trusted.
    """
    return _elsewhere() or _variable(connection)


def make_secret(connection: Connection) -> None:
    """Create the secret if absent, in the caller's transaction; if two callers race, only one secret is kept."""
    if stored(connection, [SIGNING_SECRET]) or _elsewhere():
        return
    fernet = get_fernet()
    text = fernet.encrypt(secrets.token_hex(SECRET_BYTES).encode()).decode()
    connection.execute(
        insert_or_leave(connection, Variable).values(
            key=SIGNING_SECRET,
            val=text,
            is_encrypted=fernet.is_encrypted,
            description="Signs the values that steps of chains pass to each other. If you delete it, it is "
            "recreated, and runs in flight have to be cleared from `plan` on.",
        )
    )


def _variable(connection: Session | Connection) -> str:
    rows = stored(connection, [SIGNING_SECRET])
    return plain(*rows[SIGNING_SECRET]) if rows else ""


def _elsewhere() -> str:
    """The secret from Airflow's other secrets backends, which take precedence over the database."""
    for backend in ensure_secrets_loaded():
        # Airflow's own database backend would end the caller's transaction.
        if isinstance(backend, MetastoreBackend):
            continue
        try:
            found = backend.get_variable(key=SIGNING_SECRET)
        except Exception:
            # Continue with the next backend, as Airflow does.
            log.warning(
                "%s could not be queried for the signing secret", type(backend).__name__, exc_info=True
            )
            continue
        if found:
            return str(found)
    return ""
