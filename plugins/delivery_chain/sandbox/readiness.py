"""Waits until Airflow has read the chains and each source is watched, so that no push is taken for old.

What can't come about is told, and not waited for: the way to mend it often leads through the Airflow that is up.
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
"""The Dag files that make Dags of specs."""
SLOW = "reducing-dag-complexity"
"""In Airflow's words for a file that took too long to read: it tries again by itself."""
FOREIGN_SECONDS = 120.0
"""For the first Dag of a folder of which nothing is known; it may hold none."""
POLL_SECONDS = 0.3
ENDED_BADLY = frozenset({"failed", "up_for_retry", "upstream_failed"})


class Api(Protocol):
    """What is asked of Airflow; see `api.AirflowApi`."""

    def dags(self, *, tag: str = "") -> list[dict[str, Any]]: ...
    def import_errors(self) -> list[str]: ...
    def variable(self, key: str) -> str | None: ...
    def runs(self, dag_id: str) -> list[dict[str, Any]]: ...
    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]: ...
    def failure(self, dag_id: str, run_id: str, task_id: str, number: int) -> tuple[str, str]: ...


@dataclass(slots=True)
class Readiness:
    """One wait for the Dags and for the first look at every source and namespace of images."""

    api: Api
    dags: Collection[str]
    """Ids of the Dags that the specs make."""
    watches: Collection[str]
    """Those of them that watch something, but for those whose connection is missing."""
    check: Callable[[str], None] = lambda _missing: None
    """Called before each look with what is still missing; raises to give up."""
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    warnings: list[str] = field(default_factory=list)
    """What could not come about."""

    def wait(self, *, foreign: bool = False) -> list[str]:
        """Wait.

        Args:
            foreign: Whether the Dags folder is another than the package's, so that nobody knows what is in it.

        Returns:
            What is not watched or not read, and why; everything else works all the same.
        """
        if foreign:
            until = self.clock() + FOREIGN_SECONDS
            self._until(lambda: [] if self._any() or self.clock() > until else ["the first Dag"])
        self._until(self._unread)
        self._until(self._unwatched)
        broken: list[str] = []
        broken = self._asked(self.api.import_errors, broken)
        return [*self.warnings, *(f"not read: {error}" for error in broken)]

    def _until(self, missing: Callable[[], list[str]]) -> None:
        left = ["an answer"]
        while left:
            self.check(", ".join(left))
            left = self._asked(missing, left)
            self.sleep(POLL_SECONDS if left else 0)

    def _asked(self, question: Callable[[], T], otherwise: T) -> T:
        """An answer; where none came, the API server is slow, and whether it lives `check` knows."""
        try:
            return question()
        except AirflowUnreachable:
            return otherwise

    def _any(self) -> bool:
        return bool(self.api.dags() or self.api.import_errors())

    def _unread(self) -> list[str]:
        """The Dags that Airflow has not read yet; none where it can't read their file."""
        if not self.dags:
            return []
        unread = sorted(set(self.dags) - {dag["dag_id"] for dag in self.api.dags()})
        broken = unread and any(
            file in error for error in self.api.import_errors() if SLOW not in error for file in FILES
        )
        return [] if broken else [f"the Dag {one}" for one in unread]

    def _unwatched(self) -> list[str]:
        """The watching Dags that have not stored what was there before: their Variable, named as the Dag."""
        if not self.watches:
            return []
        dags = {dag["dag_id"]: dag for dag in self.api.dags() if dag["dag_id"] in self.watches}
        told = {one.partition(":")[0] for one in self.warnings}
        unwatched = []
        for dag_id, dag in dags.items():
            if dag_id in told or self.api.variable(dag_id):
                continue
            runs = self.api.runs(dag_id)
            if any(run["state"] == "success" for run in runs):
                continue
            if why := "it is paused" if dag.get("is_paused") else self._hindrance(dag_id, runs):
                self.warnings.append(f"{dag_id}: does not watch its source: {why}")
            else:
                unwatched.append(f"the first look of {dag_id}")
        return unwatched

    def _hindrance(self, dag_id: str, runs: Sequence[dict[str, Any]]) -> str:
        """Why the newest run can't look, in the words of its task; empty while it may still be about to.

        What is not this package's own error, such as an API server that did not answer the task, is waited for: Airflow
        tries again by itself.
        """
        for run in runs[:1]:
            for one in self.api.task_instances(dag_id, run["dag_run_id"]):
                if one["task_id"] == WatchStep.WATCH and one["state"] in ENDED_BADLY:
                    return self._reason(dag_id, run["dag_run_id"], one["try_number"])
        return ""

    def _reason(self, dag_id: str, run_id: str, number: int) -> str:
        # A task that waits for its next try may have that one's number already.
        for tried in range(number, max(number - 2, 0), -1):
            kind, words = self.api.failure(dag_id, run_id, WatchStep.WATCH, tried)
            known = getattr(errors, kind, None) if kind else None
            if isinstance(known, type) and issubclass(known, DeliveryChainError):
                return words.partition("\n")[0]
        return ""
