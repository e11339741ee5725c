"""The listener without a database; `tests/integration/airflow` runs it in a real scheduler step."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.airflow_db import listener

if TYPE_CHECKING:
    from collections.abc import Callable

HOOKS = [listener.on_dag_run_success, listener.on_dag_run_failed]


class Broken:
    """A Dag run that raises whatever is asked of it."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("the database is away")


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize(
    ("make", "shown"), [(Broken, "?"), (lambda: SimpleNamespace(run_id="r1"), "r1"), (lambda: None, "?")]
)
def test_nothing_that_fails_here_reaches_the_scheduler(
    hook: Callable[..., None], make: Callable[[], Any], shown: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever breaks is a line in the log, not an exception; not even the run's id is asked for again."""
    with caplog.at_level(logging.WARNING, logger=listener.__name__):
        hook(dag_run=make(), msg="")
    assert [record.getMessage() for record in caplog.records] == [f"The note of run {shown} was not written"]


@pytest.mark.parametrize("hook", HOOKS)
def test_both_ends_of_a_run_are_noted(monkeypatch: pytest.MonkeyPatch, hook: Callable[..., None]) -> None:
    """A run that passed and one that was blocked."""
    noted: list[Any] = []
    monkeypatch.setattr(listener, "_do", lambda *given: noted.append(given))
    hook(dag_run="run", msg="why")
    assert noted == [("run", listener._note)]
