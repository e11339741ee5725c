# ruff: noqa: PLC0415 - Airflow takes seconds to import; only the tests that run pay
"""A SQLite database of Airflow's, with records of pushes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.push_records import DAY, NOW, Records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import timedelta

    from delivery_chain.airflow_db.push_events import Ledger


@pytest.fixture(scope="module")
def database() -> None:
    from airflow.utils.db import initdb
    from airflow.utils.session import create_session

    with create_session() as session:
        initdb(session=session)


@pytest.fixture
def records(database: None) -> Iterator[Records]:
    """An empty ledger, with its Dags."""
    from airflow.models.connection import Connection
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from airflow.models.log import Log
    from airflow.models.variable import Variable
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import delete, update

    with create_session() as session:
        for model in (XComModel, DagRun, Log, Variable, Connection):
            session.execute(delete(model))
        found = Records(session)
        found.dags()
        session.execute(update(DagModel).values(is_paused=False, is_stale=False))
        yield found


@pytest.fixture
def read(records: Records) -> Callable[..., Ledger]:
    """Read everything written so far."""
    from delivery_chain.airflow_db import push_events

    def ask(since: timedelta = DAY, readable: set[str] | None = None) -> Ledger:
        records.session.flush()
        return push_events.read(records.session, NOW - since, NOW, readable)

    return ask
