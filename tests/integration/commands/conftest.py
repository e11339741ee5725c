"""`delivery-chain trigger` and a server on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from delivery_chain.commands.main import main
from delivery_chain.tools import airflow_rest
from support.airflow_fake import PASSWORD, FakeAirflow, airflow_at_hand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(name="airflow")
def _airflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAirflow]:
    """A fake Airflow, and a login for it in the environment."""
    with airflow_at_hand(monkeypatch) as fake:
        yield fake


@pytest.fixture(name="short")
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timeouts of half a second."""
    monkeypatch.setattr(airflow_rest.AirflowServer.__init__, "__kwdefaults__", {"timeout": 0.5})


@pytest.fixture(name="run")
def _run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command; return its exit code and output, which contain no secret."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["trigger", *arguments])
        out, err = capsys.readouterr()
        for secret in (PASSWORD, "token-1", "token-2", "hush"):
            assert secret not in out + err
        return code, out, err

    return run
