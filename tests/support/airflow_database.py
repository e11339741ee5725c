# ruff: noqa: PLC0415 - Airflow takes seconds to import; only the tests that run it pay for that
"""A metadata database for Airflow, SQLite or a PostgreSQL cluster, that this process uses temporarily."""

from __future__ import annotations

import io
import os
import secrets
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from delivery_chain.sandbox import database, services
from delivery_chain.sandbox.console import Console
from delivery_chain.sandbox.layout import Layout, State
from delivery_chain.sandbox.starter import Starter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SQLITE, POSTGRESQL = "sqlite", "postgresql"
CLUSTER_SECONDS = 300
VARIABLE = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"


@contextmanager
def airflow_database(kind: str, folder: Path) -> Iterator[str]:
    """Create an empty database with Airflow's tables, use it in this process, and remove it; yields its URL.

    Args:
        kind: `sqlite` or `postgresql`.
        folder: Empty.
    """
    if kind == SQLITE:
        with _used(f"sqlite:///{folder / 'airflow.db'}") as url:
            yield url
        return
    with _cluster(folder) as url, _used(url):
        yield url


@contextmanager
def _cluster(folder: Path) -> Iterator[str]:
    layout, password = Layout(folder / "cluster"), secrets.token_hex(12)
    layout.root.mkdir()
    state = State(ports=services.free_ports([database.NAME]))
    try:
        until = time.monotonic() + CLUSTER_SECONDS
        database.create_cluster(layout, state, password, deadline=until)
        Starter(layout, state, Console(io.StringIO()), until).bring_up([database.service(state)])
        yield database.url(POSTGRESQL, layout, state, password)
    finally:
        services.halt(list(state.processes), layout, state, lambda *_: None)
        database.remove_cluster(state)


@contextmanager
def _used(url: str) -> Iterator[str]:
    """Let this process's Airflow use a database, and afterwards the one it used before."""
    from airflow.utils.db import initdb
    from airflow.utils.session import create_session

    before = os.environ[VARIABLE]
    _switch(url)
    try:
        with create_session() as session:
            initdb(session=session)
        yield url
    finally:
        _switch(before)


def _switch(url: str) -> None:
    from airflow import settings

    settings.dispose_orm(do_log=False)
    os.environ[VARIABLE] = url
    settings.configure_vars()
    settings.configure_orm()
