"""A real metadata database, SQLite and PostgreSQL in turn, with the webhook receiver on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from delivery_chain.sandbox.database import missing_for_postgresql
from support.airflow_database import POSTGRESQL, SQLITE, airflow_database
from support.webhook_airflow import Receiver, connect, connect_git, make_receiver
from support.webhook_store import Stored

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module", params=[SQLITE, POSTGRESQL])
def metadata(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    """An empty database of Airflow, for the tests of a module."""
    if request.param == POSTGRESQL and (missing := missing_for_postgresql()):
        pytest.skip(f"no PostgreSQL here: {', '.join(missing)}")
    with airflow_database(request.param, tmp_path_factory.mktemp(request.param)) as url:
        yield Stored(request.param, url)


@pytest.fixture
def stored(metadata: Stored, monkeypatch: pytest.MonkeyPatch) -> Stored:
    """An empty database, and the connections `hook` and `git_shop`."""
    metadata.clear()
    connect(monkeypatch)
    connect_git(monkeypatch)
    return metadata


@pytest.fixture
def receiver(stored: Stored) -> Iterator[Receiver]:
    """The plugin's receiver on that database."""
    with make_receiver() as made:
        yield made
