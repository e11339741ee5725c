# ruff: noqa: PLC0415 - Airflow takes seconds to import; only the tests that run pay
"""The signing secret in a real database of Airflow: only one exists, however many create it, and never in the clear."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.core.seal import SIGNING_SECRET

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.webhook_store import Stored

pytestmark = pytest.mark.integration
AT_ONCE = 8


@pytest.fixture
def without(metadata: Stored) -> Iterator[Stored]:
    """A database without the secret, and no secrets backend that has it."""
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AIRFLOW_VAR_DELIVERY_CHAIN_SIGNING_SECRET")
        patch.setenv("AIRFLOW__CORE__FERNET_KEY", "cKZjXQfDwPrZjD1RXq4yFXXhHX4G1nWVLLXkmeoRzqA=")
        forget_fernet()
        with create_session() as session:
            session.execute(delete(Variable).where(Variable.key == SIGNING_SECRET))
        yield metadata
    forget_fernet()


def forget_fernet() -> None:
    """Make Airflow read its key again, which it does once per process."""
    from airflow.models import crypto

    crypto.get_fernet.cache_clear()


def make() -> str:
    """Create the secret in a transaction of its own, as a scheduler does; return the stored secret."""
    from airflow.utils.session import create_session

    from delivery_chain.airflow_db.signing_secret import make_secret, stored_secret

    with create_session(scoped=False) as session:
        make_secret(session.connection())
    with create_session(scoped=False) as session:
        return stored_secret(session.connection())


def rows() -> list[tuple[str, bool]]:
    from airflow.utils.session import create_session

    from delivery_chain.airflow_db.variables import stored

    with create_session() as session:
        return list(stored(session, [SIGNING_SECRET]).values())


def test_schedulers_that_make_it_at_once_have_one(without: Stored) -> None:
    """A value sealed with another secret would be refused by everyone else."""
    together = Barrier(AT_ONCE)

    def one(_: int) -> str:
        together.wait()
        return make()

    with ThreadPoolExecutor(AT_ONCE) as threads:
        found = set(threads.map(one, range(AT_ONCE)))
    (secret,) = found
    assert re.fullmatch(r"[0-9a-f]{64}", secret)
    assert make() == secret


def test_it_is_kept_encrypted(without: Stored) -> None:
    """A dump of the database does not reveal it."""
    secret = make()
    ((text, encrypted),) = rows()
    assert (encrypted, secret in text) == (True, False)


def test_deleted_it_is_made_anew(without: Stored) -> None:
    """This is how the secret is changed."""
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    before = make()
    with create_session() as session:
        session.execute(delete(Variable).where(Variable.key == SIGNING_SECRET))
    assert len({before, make(), make()}) == 2


def test_one_from_a_secrets_backend_comes_first(without: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in tasks; then none is created."""
    monkeypatch.setenv("AIRFLOW_VAR_DELIVERY_CHAIN_SIGNING_SECRET", "v" * 64)
    assert (make(), rows()) == ("v" * 64, [])


@pytest.mark.parametrize(("tag", "made"), [("delivery-chain", True), ("nightly", False)])
def test_it_is_made_before_the_first_step_of_a_chain(without: Stored, tag: str, *, made: bool) -> None:
    """In the transaction in which the scheduler starts the run, which it does not end."""
    from airflow.utils.session import create_session
    from airflow.utils.sqlalchemy import prohibit_commit

    from delivery_chain.airflow_db import listener

    with create_session(scoped=False) as session, prohibit_commit(session) as guard:
        run: Any = SimpleNamespace(dag=SimpleNamespace(tags=[tag]), dag_id="shop", run_id="r1")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sqlalchemy.orm.object_session", lambda _: session)
            listener.on_dag_run_running(dag_run=run, msg="started")
        assert rows() == []
        guard.commit()
    assert bool(rows()) is made
