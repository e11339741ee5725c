# ruff: noqa: PLC0415 - Airflow takes seconds to import; only the tests that run it pay for that
"""One run of a chain in a metadata database, and what the scheduler, its tasks and users do to it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from delivery_chain.core.events.event import Kind
from delivery_chain.core.gate.judge import Hit, Verdict
from delivery_chain.core.plan import Plan, Planned
from delivery_chain.core.results import DeliveryResult, Published, RegionResult, Subject, TagMove
from delivery_chain.core.seal import Place, sealed
from delivery_chain.core.spec.model import ChainSpec
from delivery_chain.core.steps import STEPS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

RUN = "manual__1"
DAY = datetime(2026, 1, 1, tzinfo=UTC)
DIGEST = "sha256:" + "9" * 64
TITLE = "shop/api v7 at sha256:999999999999"


def spec_of(dag_id: str) -> ChainSpec:
    return ChainSpec.model_validate(
        {
            "version": 1,
            "name": dag_id,
            "scope": {"instance": "home", "namespace": "shop", "repositories": ["api"]},
            "replicate": [{"name": "west", "to": "west"}],
            "distribute": [{"name": "prod", "url_connection": "prod_hook"}],
            "scan": {"enabled": False},
        }
    )


def plan_of(dag_id: str) -> Plan:
    return Plan(
        chain=dag_id, run_id=RUN, kind=Kind.IMAGE_PUSH, instance="home", namespace="shop", repository="api",
        tags=("v7",), digest=DIGEST, pushed_at=DAY,
    )  # fmt: skip


REGION = RegionResult(
    rule="west", region="west", host="w", name="shop/api", digest=DIGEST, tags=(), copied=1, skipped=0, bytes=1,
    seconds=1.0,
)  # fmt: skip
PASSED = Verdict(digest=DIGEST, passed=True, judged_at=DAY)
REFUSED = Verdict(digest=DIGEST, passed=False, judged_at=DAY, hits=(Hit(clause="findings", count=3),))


@contextmanager
def listening() -> Iterator[None]:
    """Make this process's Airflow call the package's listener."""
    from airflow.listeners.listener import get_listener_manager

    from delivery_chain.airflow_db import listener

    manager = get_listener_manager()
    manager.add_listener(listener)
    try:
        yield
    finally:
        manager.clear()


@dataclass(slots=True)
class Chain:
    """One run of a chain of its own."""

    dag_id: str
    tags: tuple[str, ...] = ("delivery-chain",)
    serialized: Any = field(default=None, repr=False)

    @property
    def dag(self) -> Any:
        from airflow.serialization.serialized_objects import DagSerialization

        from delivery_chain.dag_files import factory

        made = factory.make_chain_dag(spec_of(self.dag_id))
        made.tags = set(self.tags)
        return DagSerialization.deserialize_dag(DagSerialization.serialize_dag(made))

    def create(self) -> None:
        """Create a run whose tasks have not begun."""
        from airflow.models.dagbundle import DagBundleModel
        from airflow.models.serialized_dag import SerializedDagModel
        from airflow.serialization.definitions.dag import SerializedDAG
        from airflow.serialization.serialized_objects import LazyDeserializedDAG
        from airflow.utils.session import create_session
        from airflow.utils.types import DagRunTriggeredByType, DagRunType

        from delivery_chain.dag_files import factory

        with create_session() as session:
            if session.get(DagBundleModel, "tests") is None:
                session.add(DagBundleModel(name="tests"))
                session.flush()
            made = factory.make_chain_dag(spec_of(self.dag_id))
            made.tags = set(self.tags)
            lazy = LazyDeserializedDAG.from_dag(made)
            SerializedDAG.bulk_write_to_db("tests", None, [lazy], session=session)
            SerializedDagModel.write_dag(lazy, bundle_name="tests", session=session)
            session.flush()
            self.dag.create_dagrun(
                run_id=RUN,
                run_type=DagRunType.MANUAL,
                state="running",
                run_after=DAY,
                triggered_by=DagRunTriggeredByType.TEST,
                session=session,
            )

    def run(self, session: Session) -> Any:
        from airflow.models.dagrun import DagRun
        from sqlalchemy import select

        found = session.scalar(select(DagRun).where(DagRun.dag_id == self.dag_id))
        assert found is not None
        found.dag = self.dag
        return found

    def delete(self, *tasks: str) -> None:
        """Delete tasks as the button of a task instance's page does."""
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session
        from sqlalchemy import delete

        about = (TaskInstance.dag_id == self.dag_id, TaskInstance.task_id.in_(tasks))
        with create_session() as session:
            session.execute(delete(TaskInstance).where(*about))

    def states(self, default: str = "success", **states: str) -> None:
        """Set the tasks' states."""
        from airflow.utils.session import create_session

        with create_session() as session:
            for one in self.run(session).get_task_instances(session=session):
                one.state = states.get(one.task_id, default)
                one.try_number = max(one.try_number, 1)

    def leave(self, **left: Any) -> None:
        """Leave values of tasks under their seals; anything that is not one of our values is left as it is."""
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session

        from delivery_chain.hooks.signing_secret import signing_secret

        with create_session() as session:
            for task, value in left.items():
                index = 0 if task in {"replicate", "distribute"} else -1
                place = Place(self.dag_id, RUN, task, index)
                given = (
                    sealed(value.to_xcom(), place, signing_secret()) if hasattr(value, "to_xcom") else value
                )
                XComModel.set(
                    key="return_value", value=given, task_id=task, dag_id=self.dag_id, run_id=RUN, map_index=index,
                    session=session,
                )  # fmt: skip

    def deliver(self, verdict: Verdict = PASSED) -> None:
        """Leave what the steps of a run leave that ended well, or was blocked."""
        moves = (TagMove(tag="v7", state="moved", digest=DIGEST),)
        self.leave(
            plan=Planned(plan=plan_of(self.dag_id), spec=spec_of(self.dag_id)),
            assemble=Subject(digest=DIGEST, media_type="m", size=1),
            gate=verdict,
        )
        if verdict.passed:
            told = DeliveryResult(
                trigger="prod", url="https://t", digest=DIGEST, delivered=("v7",), attempts=()
            )
            self.leave(publish=Published(digest=DIGEST, tags=moves), replicate=REGION, distribute=told)

    def mark(self, event: str, owner: str, **extra: Any) -> None:
        """Add a row to the event log, as the REST API does."""
        import json

        from airflow.models.log import Log
        from airflow.utils.session import create_session

        with create_session() as session:
            session.add(Log(event, owner=owner, dag_id=self.dag_id, run_id=RUN, extra=json.dumps(extra)))

    def end(self, times: int = 1) -> str:
        """Do what the scheduler does with a run whose tasks have ended, including its guard against early commits."""
        from airflow.utils.session import create_session
        from airflow.utils.sqlalchemy import prohibit_commit

        for _ in range(times):
            with create_session() as session, prohibit_commit(session) as guard:
                run = self.run(session)
                run.state = "running"
                run.update_state(session=session)
                state = str(run.state)
                assert state in {"success", "failed", "queued"}
                guard.commit()
        return state

    def begin(self) -> None:
        """Do what the scheduler does with a run that starts or resumes."""
        from airflow.utils.session import create_session
        from airflow.utils.sqlalchemy import prohibit_commit

        with create_session() as session, prohibit_commit(session) as guard:
            run = self.run(session)
            run.state = "running"
            run.notify_dagrun_state_changed(msg="started")
            guard.commit()

    def clear(self, *tasks: str) -> None:
        from airflow.models.taskinstance import clear_task_instances
        from airflow.utils.session import create_session

        with create_session() as session:
            found = [
                one for one in self.run(session).get_task_instances(session=session) if one.task_id in tasks
            ]
            clear_task_instances(found, session)

    def stop(self) -> None:
        """Do what the API server does when a user marks the run as failed."""
        from airflow.api.common.mark_tasks import set_dag_run_state_to_failed
        from airflow.utils.session import create_session

        self.mark("patch_dag_run", "bob", state="failed")
        with create_session() as session:
            set_dag_run_state_to_failed(dag=self.dag, run_id=RUN, commit=True, session=session)

    def clear_failed(self) -> None:
        """Do what the API server does when a user clears only the run's failed tasks."""
        from airflow.utils.session import create_session

        self.mark("clear_dag_run", "anna", dry_run=False, only_failed=True)
        with create_session() as session:
            self.dag.clear(run_id=RUN, task_ids=None, only_failed=True, session=session)

    def set(self, **states: str) -> None:
        """Set the states of all instances of some tasks; the others stay as they are."""
        from airflow.utils.session import create_session

        with create_session() as session:
            for one in self.run(session).get_task_instances(session=session):
                if one.task_id in states:
                    one.state = states[one.task_id] or None
                    one.try_number += bool(one.state in {"success", "failed"})

    def in_state(self, *states: str) -> str:
        """The steps with an instance in one of these states, where empty means not scheduled; in step order."""
        found = {name.rstrip("0123456789") for name, one in self.instances().items() if one[0] in states}
        return " ".join(step for step in STEPS if step in found)

    def instances(self) -> dict[str, tuple[str, int, int, str]]:
        """State, try, maximum tries and name of each task instance."""
        from airflow.utils.session import create_session

        with create_session() as session:
            return {
                f"{one.task_id}{one.map_index if one.map_index >= 0 else ''}": (
                    str(one.state or ""),
                    one.try_number,
                    one.max_tries,
                    one.rendered_map_index or "",
                )
                for one in self.run(session).get_task_instances(session=session)
            }

    def tries(self, task: str) -> list[int]:
        """The earlier tries that Airflow still knows, and whose logs it finds."""
        from airflow.models.taskinstancehistory import TaskInstanceHistory as History
        from airflow.utils.session import create_session
        from sqlalchemy import select

        with create_session() as session:
            wanted = select(History.try_number).where(History.dag_id == self.dag_id, History.task_id == task)
            return sorted(session.scalars(wanted))

    @property
    def note(self) -> tuple[str, str | None] | None:
        """The note and its author."""
        from airflow.utils.session import create_session

        with create_session() as session:
            row = self.run(session).dag_run_note
            return None if row is None else (row.content, row.user_id)

    def write(self, note: str | None, by: str | None) -> None:
        """Write a note as Airflow's REST API does."""
        from airflow.utils.session import create_session

        with create_session() as session:
            run = self.run(session)
            if run.dag_run_note is None:
                run.note = (note, by)
            else:
                run.dag_run_note.content, run.dag_run_note.user_id = note, by
