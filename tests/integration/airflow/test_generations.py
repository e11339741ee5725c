# ruff: noqa: PLC0415 - Airflow takes seconds to import; only the tests that run pay
"""Clears and retries of task instances by Airflow's own code, and how they differ; see `operators.task_memory`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.utils.state import TaskInstanceState

from support.chain_steps import DAY, chain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.orm import Session

    from support.webhook_store import Stored

pytestmark = pytest.mark.integration
SPEC = chain()
JOB = 7


class Instance:
    """The task `publish` of a run, as handled by the scheduler, its executor and users."""

    def __init__(self, session: Session, run: Any, dag: Any) -> None:
        self.session = session
        self.run = run
        self.run.dag = self.dag = dag

    @property
    def row(self) -> Any:
        from airflow.models.taskinstance import TaskInstance
        from sqlalchemy import select

        found = self.session.scalar(select(TaskInstance).where(TaskInstance.task_id == "publish"))
        assert found is not None
        found.task = self.dag.get_task("publish")
        return found

    def begin(self) -> None:
        """Schedule the task, and let its worker report that it runs."""
        self.run.schedule_tis([self.row], session=self.session)
        self.session.expire_all()
        self.row.queued_by_job_id = JOB
        self.become(TaskInstanceState.RUNNING)

    def fail(self) -> None:
        """Do what the scheduler does if the task could not report its failure; the API server does the same."""
        self.row.handle_failure("lost", session=self.session)
        assert self.row.state == TaskInstanceState.UP_FOR_RETRY

    def become(self, state: TaskInstanceState) -> None:
        self.row.state = state
        self.session.flush()

    def clear(self) -> None:
        from airflow.models.taskinstance import clear_task_instances

        clear_task_instances([self.row], self.session)
        self.session.flush()

    def executor_says(self, state: TaskInstanceState) -> None:
        """Report to the scheduler that the task's process ended."""
        from airflow.jobs.scheduler_job_runner import SchedulerJobRunner
        from airflow.models.dagbag import DBDagBag

        events = {self.row.key: (state, None)}
        executor = SimpleNamespace(get_event_buffer=lambda: events, has_task=lambda _: False)
        SchedulerJobRunner.process_executor_events(executor, JOB, DBDagBag(), self.session)  # type: ignore[arg-type]
        self.session.flush()


@pytest.fixture
def instance(stored: Stored) -> Iterator[Instance]:
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.utils.session import create_session
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    stored.add(SPEC)
    with create_session() as session:
        dag = SerializedDagModel.get_dag(SPEC.name, session=session)
        run = dag.create_dagrun(
            run_id="manual__1",
            run_type=DagRunType.MANUAL,
            state="running",
            run_after=DAY,
            triggered_by=DagRunTriggeredByType.TEST,
            session=session,
        )
        yield Instance(session, run, dag)
        session.rollback()


def retried(it: Instance) -> None:
    it.fail()


def lost_twice(it: Instance) -> None:
    it.fail()
    it.begin()
    it.fail()


@pytest.mark.parametrize("happens", [retried, lost_twice])
def test_a_retry_leaves_the_generation(instance: Instance, happens: Callable[[Instance], None]) -> None:
    """Whichever part of Airflow decides on the retry."""
    instance.begin()
    before = instance.row.max_tries
    happens(instance)
    instance.begin()
    assert instance.row.max_tries == before


def green(it: Instance) -> None:
    it.become(TaskInstanceState.SUCCESS)
    it.clear()


def red(it: Instance) -> None:
    it.become(TaskInstanceState.FAILED)
    it.clear()


def marked(it: Instance) -> None:
    it.fail()
    it.become(TaskInstanceState.SUCCESS)
    it.clear()


def waiting(it: Instance) -> None:
    it.fail()
    it.clear()


def running(it: Instance) -> None:
    it.clear()
    assert it.row.state == TaskInstanceState.RESTARTING
    # The supervisor ends it at the next heartbeat, and itself exits successfully.
    it.executor_says(TaskInstanceState.SUCCESS)


def twice(it: Instance) -> None:
    it.become(TaskInstanceState.SUCCESS)
    it.clear()
    it.clear()


@pytest.mark.parametrize("happens", [green, red, marked, waiting, running, twice])
def test_a_clear_makes_a_generation(instance: Instance, happens: Callable[[Instance], None]) -> None:
    """In every state in which a task can be cleared, and each time."""
    seen = [instance.row.max_tries]
    for _ in range(3):
        instance.begin()
        happens(instance)
        seen.append(instance.row.max_tries)
    assert len(set(seen)) == len(seen)


def test_a_clear_before_the_first_try_changes_nothing(instance: Instance) -> None:
    """A task that has never run has nothing to forget."""
    before = instance.row.max_tries
    instance.clear()
    assert (instance.row.try_number, instance.row.max_tries) == (0, before)


def test_a_running_task_whose_worker_is_lost_while_it_is_cleared_goes_on(instance: Instance) -> None:
    """The only clear that Airflow turns into a retry, because the task's worker no longer exists."""
    instance.begin()
    before = instance.row.max_tries
    instance.clear()
    instance.executor_says(TaskInstanceState.FAILED)
    assert (instance.row.state, instance.row.max_tries) == (TaskInstanceState.UP_FOR_RETRY, before)
