"""Waiting until every source is watched, but not for what can't happen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from delivery_chain.errors import AirflowUnreachable, ToolError
from delivery_chain.sandbox.readiness import FOREIGN_SECONDS, Readiness

SOURCE = "delivery-chain-source--git_shop--shop-api-1a2b3c"
LATE = 1000.0


@dataclass
class FakeAirflow:
    """An Airflow in which things come about at given seconds; its clock goes only by sleeping."""

    read_at: float = 0
    source_at: float | None = None
    baseline_at: float | None = None
    polled_at: float | None = None
    paused: bool = False
    watch_state: str = "running"
    failures: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Exception class and words by try number."""
    errors: list[str] = field(default_factory=list)
    silent_until: float = 0
    now: float = 0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def check(self, missing: str) -> None:
        if self.now > LATE:
            raise ToolError(f"not ready in time: {missing}", tool="sandbox")

    def _since(self, moment: float | None) -> bool:
        return moment is not None and self.now >= moment

    def dags(self, *, tag: str = "") -> list[dict[str, Any]]:
        assert not tag
        if self.now < self.silent_until:
            raise AirflowUnreachable("no answer within 15 s", tool="airflow")
        chains = [{"dag_id": "shop-api"}] if self._since(self.read_at) else []
        sources = [{"dag_id": SOURCE, "is_paused": self.paused}] if self._since(self.source_at) else []
        return chains + sources

    def import_errors(self) -> list[str]:
        return self.errors

    def variable(self, key: str) -> str | None:
        return "{}" if key == SOURCE and self._since(self.baseline_at) else None

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        assert dag_id == SOURCE
        return [{"dag_run_id": "first", "state": "success" if self._since(self.polled_at) else "running"}]

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        assert (dag_id, run_id) == (SOURCE, "first")
        number = max(self.failures, default=1)
        return [
            {"task_id": "match", "state": None, "try_number": 0},
            {"task_id": "watch", "state": self.watch_state, "try_number": number},
        ]

    def failure(self, dag_id: str, run_id: str, task_id: str, number: int) -> tuple[str, str]:
        assert (dag_id, run_id, task_id) == (SOURCE, "first", "watch")
        return self.failures.get(number, ("", ""))


def wait(
    airflow: FakeAirflow, *, chains: bool = True, watched: bool = True, foreign: bool = False
) -> list[str]:
    watches = [SOURCE] if watched else []
    dags = ["shop-api", SOURCE] if chains else []
    return Readiness(
        airflow, dags, watches, check=airflow.check, clock=airflow.clock, sleep=airflow.sleep
    ).wait(foreign=foreign)


@pytest.mark.parametrize("sign", ["baseline_at", "polled_at"])
def test_it_waits_for_the_first_poll(sign: str) -> None:
    """Not before the source's Dag is there and has stored what it found, by its Variable or an ended run."""
    airflow = FakeAirflow(read_at=2, source_at=4, **{sign: 9})
    assert wait(airflow) == []
    assert 9 <= airflow.now < 10


def test_however_slow_it_is() -> None:
    """Minutes on a busy machine, and answers that do not come, are no failure."""
    airflow = FakeAirflow(read_at=100, source_at=400, baseline_at=800, silent_until=90)
    assert wait(airflow) == []
    assert 800 <= airflow.now < 801


def test_what_gives_up_names_what_is_missing() -> None:
    """The caller's bound ends the wait for a poll that never ends, and is told for which."""
    with pytest.raises(ToolError, match=f"first poll of {SOURCE}"):
        wait(FakeAirflow(source_at=0))


@pytest.mark.parametrize("kind", ["ConfigurationError", "SourceError", "SourceUnreachable", "Unauthorized"])
@pytest.mark.parametrize("state", ["up_for_retry", "failed"])
def test_a_poll_that_failed_is_told_and_not_waited_for(kind: str, state: str) -> None:
    """Its reason is the watch's own, of the last try that had one."""
    failures = {1: (kind, "no such repository\nmore")}
    airflow = FakeAirflow(source_at=0, watch_state=state, failures=failures | {2: ("", "")})
    assert wait(airflow) == [f"{SOURCE}: is not watching its source: no such repository"]
    assert airflow.now < 1


@pytest.mark.parametrize("failures", [{1: ("AirflowRuntimeError", "API_SERVER_ERROR")}, {1: ("", "")}])
def test_a_failure_of_airflows_own_is_waited_for(failures: dict[int, tuple[str, str]]) -> None:
    """Airflow tries the task again by itself, and then it looks."""
    airflow = FakeAirflow(source_at=0, watch_state="up_for_retry", failures=failures, baseline_at=40)
    assert wait(airflow) == []
    assert 40 <= airflow.now < 41


def test_a_paused_watch_is_told() -> None:
    """It will not look before somebody switches it on."""
    assert wait(FakeAirflow(source_at=0, paused=True)) == [
        f"{SOURCE}: is not watching its source: it is paused"
    ]


def test_a_watch_without_its_connection_is_not_waited_for() -> None:
    """Its Dag is, so that it can be looked at."""
    airflow = FakeAirflow(read_at=2, source_at=4)
    assert wait(airflow, watched=False) == []
    assert 4 <= airflow.now < 5


def test_a_folder_of_other_dags_is_ready_with_its_first() -> None:
    """Nobody knows what is in it; where nothing comes, that is no failure either."""
    airflow = FakeAirflow(read_at=2)
    assert wait(airflow, chains=False, watched=False, foreign=True) == []
    assert airflow.now < 3
    empty = FakeAirflow(read_at=LATE)
    assert wait(empty, chains=False, watched=False, foreign=True) == []
    assert empty.now < FOREIGN_SECONDS + 1


@pytest.mark.parametrize("file", ["/dags/delivery_chain_sources.py: no", "/dags/delivery_chains.py: no"])
def test_files_that_can_not_be_read_are_told(file: str) -> None:
    """A broken Dag file does not keep the sandbox from being ready: its Dags are not waited for."""
    assert wait(FakeAirflow(errors=[file])) == [f"not parsed: {file}"]


def test_a_file_that_took_too_long_is_waited_for() -> None:
    """Airflow reads it again."""
    error = (
        "delivery_chains.py: * https://airflow.apache.org/best-practices.html#reducing-dag-complexity, PID: 1"
    )
    airflow = FakeAirflow(errors=[error], read_at=40, source_at=40, baseline_at=50)
    assert wait(airflow) == [f"not parsed: {error}"]
    assert airflow.now >= 50


def test_an_error_elsewhere_is_told_and_the_rest_is_waited_for() -> None:
    """As that of the file that shows invalid specs."""
    airflow = FakeAirflow(errors=["/dags/specs.py: mine.yaml:3"], read_at=3, source_at=3, baseline_at=5)
    assert wait(airflow) == ["not parsed: /dags/specs.py: mine.yaml:3"]
    assert airflow.now >= 5
