"""Reads the webhook senders from Airflow's database: whose pushes each reports (`speaks_for`), and since when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.models.connection import Connection
from airflow.models.log import Log
from sqlalchemy import func, or_, select

from delivery_chain.airflow_db.session import transaction
from delivery_chain.core.events.event import WEBHOOK
from delivery_chain.core.events.history import utc
from delivery_chain.core.events.ledger import EVENT

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

ADDED = ("post_connection", "bulk_connections")
"""Event log names of the requests that add connections; `DELETED` is the one that removes one."""
ADDED_BY_COMMAND = "cli_connections_add"
DELETED = "delete_connection"


@dataclass(frozen=True, slots=True)
class Sender:
    """One connection of type webhook_sender. Connections in a secrets backend can't be listed."""

    name: str
    speaks_for: tuple[str, ...]
    begun: datetime | None
    """Time of the connection's creation or first delivery; None if it is older than all records."""


def sender_names() -> frozenset[str]:
    """Connection ids of all senders in the database.

    Raises:
        SQLAlchemyError: The database does not answer.
    """
    wanted = select(Connection.conn_id).where(Connection.conn_type.in_(("webhook_sender", "webhook-sender")))
    with transaction() as session:
        return frozenset(session.scalars(wanted))


def senders_in(session: Session) -> list[Sender]:
    """All senders, sorted by name."""
    wanted = select(Connection).where(Connection.conn_type == "webhook_sender").order_by(Connection.conn_id)
    return [_sender(session, one) for one in session.scalars(wanted)]


def _sender(session: Session, connection: Connection) -> Sender:
    extra = connection.extra_dejson
    said = extra.get("speaks_for")
    names = tuple(said.replace(",", " ").split()) if isinstance(said, str) else ()
    name = str(connection.conn_id)
    return Sender(name, names, _recorded(extra) or _added(session, name) or _first_word(session, name))


def _recorded(extra: Any) -> datetime | None:
    """The creation time that `delivery-chain webhook` recorded."""
    try:
        return utc(extra.get("since"))
    except (TypeError, ValueError, OverflowError):
        return None


def _added(session: Session, name: str) -> datetime | None:
    """Time of the first request to add a sender since its last removal; later requests found it present."""
    named = Log.extra.contains(f'"connection_id": "{name}"', autoescape=True)
    removed = session.scalar(select(func.max(Log.dttm)).where(Log.event == DELETED, named))
    command = (Log.event == ADDED_BY_COMMAND) & Log.extra.contains(f"'{name}'", autoescape=True)
    wanted = select(func.min(Log.dttm)).where(or_(Log.event.in_(ADDED) & named, command))
    return session.scalar(wanted.where(Log.dttm > removed) if removed else wanted)


def _first_word(session: Session, name: str) -> datetime | None:
    return session.scalar(
        select(func.min(Log.dttm)).where(Log.event == EVENT, Log.owner == f"{WEBHOOK}{name}"[:200])
    )
