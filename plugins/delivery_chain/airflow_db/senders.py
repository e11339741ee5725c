"""The senders of webhooks that Airflow's database has, what each speaks for, and since when it may."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.models.connection import Connection
from airflow.models.log import Log
from sqlalchemy import func, or_, select

from delivery_chain.core.events.event import WEBHOOK
from delivery_chain.core.events.history import utc
from delivery_chain.core.events.ledger import EVENT

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

ADDED = ("post_connection", "bulk_connections")
"""What Airflow's event log calls the requests that add connections; `DELETED` the one that removes one."""
ADDED_BY_COMMAND = "cli_connections_add"
DELETED = "delete_connection"


@dataclass(frozen=True, slots=True)
class Sender:
    """One connection of type webhook_sender. Those of a secrets backend can't be listed."""

    name: str
    speaks_for: tuple[str, ...]
    begun: datetime | None
    """When it was made, or first told something; None where it is older than all records."""


def senders_in(session: Session) -> list[Sender]:
    """Every sender, by name."""
    wanted = select(Connection).where(Connection.conn_type == "webhook_sender").order_by(Connection.conn_id)
    return [_sender(session, one) for one in session.scalars(wanted)]


def _sender(session: Session, connection: Connection) -> Sender:
    extra = connection.extra_dejson
    said = extra.get("speaks_for")
    names = tuple(said.replace(",", " ").split()) if isinstance(said, str) else ()
    name = str(connection.conn_id)
    return Sender(name, names, _said(extra) or _added(session, name) or _first_word(session, name))


def _said(extra: Any) -> datetime | None:
    """What `delivery-chain webhook` wrote down."""
    try:
        return utc(extra.get("since"))
    except (TypeError, ValueError, OverflowError):
        return None


def _added(session: Session, name: str) -> datetime | None:
    """The first request to add it since it was last removed: a later one found it there."""
    named = Log.extra.contains(f'"connection_id": "{name}"', autoescape=True)
    removed = session.scalar(select(func.max(Log.dttm)).where(Log.event == DELETED, named))
    command = (Log.event == ADDED_BY_COMMAND) & Log.extra.contains(f"'{name}'", autoescape=True)
    wanted = select(func.min(Log.dttm)).where(or_(Log.event.in_(ADDED) & named, command))
    return session.scalar(wanted.where(Log.dttm > removed) if removed else wanted)


def _first_word(session: Session, name: str) -> datetime | None:
    return session.scalar(
        select(func.min(Log.dttm)).where(Log.event == EVENT, Log.owner == f"{WEBHOOK}{name}"[:200])
    )
