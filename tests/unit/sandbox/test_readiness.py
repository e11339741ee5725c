"""Waiting until every source is watched."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from delivery_chain.errors import ToolError
from delivery_chain.sandbox.readiness import SOURCE_TAG, await_dags

SOURCE = "delivery-chain-source--shop-api"


@dataclass
class FakeAirflow:
    """An Airflow in which things come about at given seconds; its clock goes only by sleeping."""

    read_at: float = 0
    source_at: float | None = None
    baseline_at: float | None = None
    polled_at: float | None = None
    errors: list[str] = field(default_factory=list)
    now: float = 0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def _since(self, moment: float | None) -> bool:
        return moment is not None and self.now >= moment

    def dags(self, *, tag: str = "") -> list[dict[str, Any]]:
        chains = [{"dag_id": "shop-api"}] if self._since(self.read_at) and not tag else []
        sources = [{"dag_id": SOURCE}] if self._since(self.source_at) and tag in {"", SOURCE_TAG} else []
        return chains + sources

    def import_errors(self) -> list[str]:
        return self.errors

    def variable(self, key: str) -> str | None:
        return "{}" if key == SOURCE and self._since(self.baseline_at) else None

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        return [{"state": "success" if self._since(self.polled_at) else "running"}]


def wait(airflow: FakeAirflow, *, watches_sources: bool = True) -> list[str]:
    return await_dags(airflow, watches_sources=watches_sources, clock=airflow.clock, sleep=airflow.sleep)


@pytest.mark.parametrize("sign", ["baseline_at", "polled_at"])
def test_it_waits_for_the_first_poll(sign: str) -> None:
    """Not before the source's Dag is there and has stored what it found, by its Variable or an ended run."""
    airflow = FakeAirflow(read_at=2, source_at=4, **{sign: 9})
    assert wait(airflow) == []
    assert 9 <= airflow.now < 10


def test_a_poll_that_never_ends_is_named() -> None:
    """The source's Dag is in the message."""
    with pytest.raises(ToolError, match=SOURCE):
        wait(FakeAirflow(source_at=0))


def test_without_sources_it_does_not_wait_for_them() -> None:
    """A Dags folder that watches nothing is ready with its first Dag."""
    airflow = FakeAirflow(read_at=2)
    assert wait(airflow, watches_sources=False) == []
    assert airflow.now < 3


def test_files_that_can_not_be_read_are_told() -> None:
    """A broken Dag file does not keep the sandbox from being ready."""
    assert wait(FakeAirflow(errors=["broken.py: no"]), watches_sources=False) == ["broken.py: no"]
