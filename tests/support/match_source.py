"""A source that `watch` and `match` poll, without an Airflow."""

from __future__ import annotations

from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import TaskDeferred
from airflow.sdk.execution_time import task_runner

from delivery_chain.core.events.refs import difference
from delivery_chain.core.events.watch_dags import told_key
from delivery_chain.errors import SourceUnreachable
from delivery_chain.hooks import absence
from delivery_chain.operators import match as sources
from delivery_chain.operators import watch as watching
from delivery_chain.operators.match import MatchOperator, RememberOperator
from delivery_chain.operators.watch import Cursor, WatchOperator
from delivery_chain.triggers import git_ref
from support.chain_steps import DAY, Run, chain

if TYPE_CHECKING:
    from collections.abc import Callable

    from delivery_chain.core.spec.model import ChainSpec


A, B, C = "a" * 40, "b" * 40, "c" * 40
MAIN, OLD, V1, V2 = "refs/heads/main", "refs/heads/old", "refs/tags/v1.2", "refs/tags/v1.10"
SPEC = chain(
    build={
        "rules": [
            {"name": "main", "branch": "main", "tags": [{"tag": "edge"}]},
            {"name": "release", "tag": r"v(?<n>\d+\.\d+)", "tags": [{"tag": "v${n}"}]},
        ]
    }
)


class Source:
    """A git source and the Airflow around it: the Variables, and the Dag's runs one after the other."""

    def __init__(self, *specs: ChainSpec) -> None:
        self.variables: dict[str, str] = {}
        self.refs: dict[str, str] = {}
        self.chains = tuple((spec, "api") for spec in specs or (SPEC,))
        self.started: list[str] = []
        """Ids of all runs that were ever started; Airflow makes no second one of the same id."""
        self.confs: dict[str, dict[str, Any]] = {}
        """The conf of each."""
        self.persons: dict[str, str] = {}
        """Who started a run by hand, of those that are no sensor's."""
        self.superseded: set[str] = set()
        """Those that found their ref moved on."""
        self.between: Callable[[list[dict[str, Any]]], object] | None = None
        """What happens between `match` and `start`."""
        self.skipped: dict[str, str] = {}
        """The instances of `start` that found their run there."""
        self.ended: dict[str, datetime] = {}
        """When runs ended; the others have not."""
        self.at = DAY
        self.away = False
        """Whether git does not answer."""

    def ask(self, *_: Any) -> dict[str, str]:
        """One look at the source."""
        if self.away:
            raise SourceUnreachable("git does not answer")
        return dict(self.refs)

    def get(self, key: str, default: Any = None) -> str | None:
        return self.variables.get(key, default)

    def set(self, key: str, value: str, description: str = "") -> None:
        self.variables[key] = value

    @property
    def seen(self) -> dict[str, str]:
        """What the cursor holds."""
        known = Cursor("cursor").read()
        assert known is not None
        return known[1]

    def send(self, asked: Any) -> Any:
        """Answer a task that asks its supervisor for a run."""
        one = f"{asked.dag_id} {asked.run_id}"
        person = self.persons.get(one)
        return SimpleNamespace(
            conf=self.confs[one],
            run_after=self.at,
            end_date=self.ended.get(one),
            run_type="manual" if person else "operator_triggered",
            triggering_user_name=person,
        )

    def context(self, run: Run, task: str) -> dict[str, Any]:
        """Airflow's, with a task instance that knows the runs."""
        context = run.context(task)
        return context | {"ti": Knowing(self, context["ti"])}

    def first(self) -> Run:
        """The Dag's first run, of the first look."""
        step = WatchOperator(task_id="watch", cursor="cursor", connection="git_shop", url="api.git")
        run = Run(SPEC)
        run.leave("watch", step.execute(self.context(run, "watch")))
        match = MatchOperator(task_id="match", chains=self.chains, cursor="cursor")
        run.xcoms["match", -1, "return_value"] = match.execute(self.context(run, "match"))
        RememberOperator(task_id="remember", cursor="cursor").execute(self.context(run, "remember"))
        return run

    def baseline(self) -> tuple[dict[str, str], str]:
        """What the watch that begins now waits to be different, and when that was seen."""
        step = WatchOperator(task_id="watch", cursor="cursor", connection="git_shop", url="api.git")
        self.away = True
        with pytest.raises(TaskDeferred) as caught:
            step.execute(self.context(Run(SPEC), "watch"))
        self.away = False
        arguments = caught.value.trigger.serialize()[1]
        assert arguments["told"] == told_key("cursor")
        return arguments["known"], arguments["since"]

    def watch(self, known: tuple[dict[str, str], str]) -> Any:
        """What the task `watch` gives for a look at this time."""
        step = WatchOperator(task_id="watch", cursor="cursor", connection="git_shop", url="api.git")
        event = difference(known[0], self.refs) | {"since": known[1], "looked": self.at.isoformat()}
        return step._result({}, event)

    def match(self, known: tuple[dict[str, str], str]) -> tuple[Run, list[dict[str, Any]]]:
        """The runs that one look makes."""
        run = Run(SPEC)
        run.leave("watch", self.watch(known))
        step = MatchOperator(task_id="match", chains=self.chains, cursor="cursor")
        found: list[dict[str, Any]] = step.execute(self.context(run, "match"))
        return run, found

    def start(self, runs: list[dict[str, Any]]) -> list[str]:
        """Start runs as Airflow does, and give the ids of those that are new."""
        new = []
        self.skipped = {}
        for index, run in enumerate(runs):
            one = f"{run['trigger_dag_id']} {run['trigger_run_id']}"
            if one in self.confs:
                self.skipped[f"start_{index}"] = "skipped"
            else:
                self.confs[one] = run["conf"]
                new.append(one)
        self.started += new
        return new

    def look(self, known: tuple[dict[str, str], str] | None = None) -> list[str]:
        """One whole run of the source's Dag; gives the runs that it started."""
        self.at += timedelta(minutes=1)
        if known is None and Cursor("cursor").read() is None:
            found: list[dict[str, Any]] = self.first().xcoms["match", -1, "return_value"]
            return self.start(found)
        known = self.baseline() if known is None else known
        run, found = self.match(known)
        run.xcoms["match", -1, "return_value"] = found
        if self.between:
            self.between(found)
        new = self.start(found)
        RememberOperator(task_id="remember", cursor="cursor").execute(self.context(run, "remember"))
        return new

    def push(self, **refs: str) -> list[str]:
        self.refs |= {f"refs/{'heads' if name == 'main' else 'tags'}/{name}": to for name, to in refs.items()}
        return self.look()


class Knowing:
    """A task instance that can be asked for runs."""

    def __init__(self, source: Source, ti: Any) -> None:
        self.source = source
        self.ti = ti

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ti, name)

    def get_dr_count(self, dag_id: str, run_ids: list[str]) -> int:
        return sum(f"{dag_id} {run_id}" in self.source.confs for run_id in run_ids)

    def get_task_states(self, dag_id: str, task_ids: list[str], run_ids: list[str]) -> dict[str, Any]:
        if task_ids == ["start"]:
            return dict.fromkeys(run_ids, self.source.skipped)
        assert task_ids == ["plan"]
        return {
            run_id: {"plan": "skipped"}
            for run_id in run_ids
            if f"{dag_id} {run_id}" in self.source.superseded
        }


def around(monkeypatch: pytest.MonkeyPatch, made: Source) -> Source:
    """Put a source where the steps look for Airflow and git; each look is later than the last one."""
    monkeypatch.setattr(watching, "Variable", made)
    monkeypatch.setattr(absence, "read_variable", made.get)
    monkeypatch.setattr(sources, "datetime", Clock(made))
    monkeypatch.setattr(watching, "datetime", Clock(made))
    monkeypatch.setattr(git_ref, "look", made.ask)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", made, raising=False)
    return made


class Clock:
    """The clock of the source's Airflow."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def now(self, zone: Any) -> datetime:
        return self.source.at

    def fromisoformat(self, text: str) -> datetime:
        return datetime.fromisoformat(text)
