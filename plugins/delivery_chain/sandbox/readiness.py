"""Waits until Airflow has parsed the chains, and every source and image namespace was polled once.

Until its first poll, a sensor takes every ref for an old one, and a push would start no run. Conditions that can't
become true are reported instead of awaited, because fixing them often requires a running Airflow.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from delivery_chain import errors
from delivery_chain.core.steps import WatchStep
from delivery_chain.errors import AirflowUnreachable, DeliveryChainError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

T = TypeVar("T")
FILES = ("delivery_chains.py", "delivery_chain_sources.py")
"""The Dag files that build Dags from specs."""
SLOW = "reducing-dag-complexity"
"""Part of Airflow's error for a Dag file whose parsing timed out. Airflow parses the file again by itself."""
FOREIGN_SECONDS = 120.0
"""Seconds to wait for the first Dag of a user's own Dags folder, which may contain none."""
POLL_SECONDS = 0.3
ENDED_BADLY = frozenset({"failed", "up_for_retry", "upstream_failed"})


class Api(Protocol):
    """The requests to Airflow; see `api.AirflowApi`."""

    def dags(self, *, tag: str = "") -> list[dict[str, Any]]: ...
    def import_errors(self) -> list[str]: ...
    def variable(self, key: str) -> str | None: ...
    def runs(self, dag_id: str) -> list[dict[str, Any]]: ...
    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]: ...
    def failure(self, dag_id: str, run_id: str, task_id: str, number: int) -> tuple[str, str]: ...


@dataclass(slots=True)
class Readiness:
    """One wait for the Dags and for the first poll of every source and image namespace."""

    api: Api
    dags: Collection[str]
    """Ids of the Dags built from the specs."""
    watches: Collection[str]
    """Those of the Dags that watch a source or images, except for those whose connection is missing."""
    check: Callable[[str], None] = lambda _missing: None
    """Called before each poll with what is still missing; raises to give up."""
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    warnings: list[str] = field(default_factory=list)
    """Conditions that can't become true, as sentences for the user."""

    def wait(self, *, foreign: bool = False) -> list[str]:
        """Wait until everything is ready or reported.

        Args:
            foreign: Whether the Dags folder is a user's own, so that its contents are unknown.

        Returns:
            A line for each Dag that is not watching and each file that was not parsed, with the reason; everything
            else works.
        """
        if foreign:
            until = self.clock() + FOREIGN_SECONDS
            self._until(lambda: [] if self._has_dag() or self.clock() > until else ["the first Dag"])
        self._until(self._unread)
        self._until(self._unwatched)
        broken: list[str] = []
        broken = self._asked(self.api.import_errors, broken)
        return [*self.warnings, *(f"not parsed: {error}" for error in broken)]

    def _until(self, missing: Callable[[], list[str]]) -> None:
        left = ["a response"]
        while left:
            self.check(", ".join(left))
            left = self._asked(missing, left)
            self.sleep(POLL_SECONDS if left else 0)

    def _asked(self, question: Callable[[], T], otherwise: T) -> T:
        """Query Airflow; return `otherwise` if it does not respond: it may be slow, and `check` notices if it exits."""
        try:
            return question()
        except AirflowUnreachable:
            return otherwise

    def _has_dag(self) -> bool:
        return bool(self.api.dags() or self.api.import_errors())

    def _unread(self) -> list[str]:
        """The Dags that Airflow has not parsed yet; empty if Airflow can't parse their file."""
        if not self.dags:
            return []
        unread = sorted(set(self.dags) - {dag["dag_id"] for dag in self.api.dags()})
        broken = unread and any(
            file in error for error in self.api.import_errors() if SLOW not in error for file in FILES
        )
        return [] if broken else [f"the Dag {one}" for one in unread]

    def _unwatched(self) -> list[str]:
        """The watching Dags that have not stored their baseline yet, a Variable named after the Dag."""
        if not self.watches:
            return []
        dags = {dag["dag_id"]: dag for dag in self.api.dags() if dag["dag_id"] in self.watches}
        reported = {one.partition(":")[0] for one in self.warnings}
        unwatched = []
        for dag_id, dag in dags.items():
            if dag_id in reported or self.api.variable(dag_id):
                continue
            runs = self.api.runs(dag_id)
            if any(run["state"] == "success" for run in runs):
                continue
            if why := "it is paused" if dag.get("is_paused") else self._hindrance(dag_id, runs):
                self.warnings.append(f"{dag_id}: is not watching its source: {why}")
            else:
                unwatched.append(f"the first poll of {dag_id}")
        return unwatched

    def _hindrance(self, dag_id: str, runs: Sequence[dict[str, Any]]) -> str:
        """The error that keeps the latest run from polling; empty while the run may still succeed.

        Errors from outside this package, such as an API server that did not respond to the task, are waited out,
        because Airflow retries such tasks by itself.
        """
        for run in runs[:1]:
            for one in self.api.task_instances(dag_id, run["dag_run_id"]):
                if one["task_id"] == WatchStep.WATCH and one["state"] in ENDED_BADLY:
                    return self._reason(dag_id, run["dag_run_id"], one["try_number"])
        return ""

    def _reason(self, dag_id: str, run_id: str, number: int) -> str:
        # A task in up_for_retry may already carry the number of its next try.
        for tried in range(number, max(number - 2, 0), -1):
            kind, words = self.api.failure(dag_id, run_id, WatchStep.WATCH, tried)
            known = getattr(errors, kind, None) if kind else None
            if isinstance(known, type) and issubclass(known, DeliveryChainError):
                return words.partition("\n")[0]
        return ""
