# ruff: noqa: PLC0415 - Airflow takes seconds to import; only the tests that run pay
"""Webhooks and the sensor on one Airflow database: whichever sees a push first, it gets one run, and none is lost."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.execution_time import task_runner

from delivery_chain.core.events.refs import difference
from delivery_chain.core.events.watch_dags import images_dag_id, source_dag_id, told_key
from delivery_chain.core.spec.model import Source
from delivery_chain.hooks import absence
from delivery_chain.operators import match as sources
from delivery_chain.operators.match import MatchOperator
from delivery_chain.web import receiver as receiver_module
from support.chain_steps import Run
from support.webhook_airflow import DIGEST, MAIN, OTHER_DIGEST, A, B, C, commit, images, moved, pushed, spec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from support.webhook_airflow import Receiver
    from support.webhook_store import Stored

pytestmark = pytest.mark.integration
WATCH = source_dag_id(Source(connection="git_shop", url="api.git"))
IMAGES = images_dag_id("home", "base")
V1 = "refs/tags/v1"


class Sensor:
    """A watching Dag's runs, in sequence, on the real database: `watch`'s result, `match`, starts, cursor."""

    def __init__(self, stored: Stored, cursor: str = WATCH, **match: Any) -> None:
        self.stored = stored
        self.cursor = cursor
        self.how = match or {"chains": ((spec(), "api"),)}
        self.known: dict[str, str] = {}
        self.since: datetime | None = None
        self.look({})

    def get(self, key: str, default: Any = None) -> Any:
        found = self.stored.variables().get(key)
        return default if found is None else json.dumps(found)

    def send(self, asked: Any) -> Any:
        from airflow.models.dagrun import DagRun
        from airflow.sdk.execution_time.comms import DRCount, GetDRCount
        from airflow.utils.session import create_session
        from sqlalchemy import select

        if isinstance(asked, GetDRCount):
            return DRCount(count=self.get_dr_count(asked.dag_id, asked.run_ids or []))
        wanted = select(DagRun).where(DagRun.dag_id == asked.dag_id, DagRun.run_id == asked.run_id)
        with create_session() as session:
            run = session.scalars(wanted).one()
            said = ("conf", "run_after", "end_date", "run_type", "triggering_user_name")
            return SimpleNamespace(**{key: getattr(run, key) for key in said})

    def get_dr_count(self, dag_id: str, run_ids: list[str]) -> int:
        return len({run_id for _, run_id in self.stored.runs(dag_id)} & set(run_ids))

    def get_task_states(self, dag_id: str, task_ids: list[str], run_ids: list[str]) -> dict[str, Any]:
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session
        from sqlalchemy import select

        wanted = select(TaskInstance).where(TaskInstance.dag_id == dag_id, TaskInstance.run_id.in_(run_ids))
        with create_session() as session:
            rows = session.scalars(wanted.where(TaskInstance.task_id.in_(task_ids))).all()
            return {row.run_id: {row.task_id: row.state} for row in rows}

    def look(self, refs: Mapping[str, str], *, after: float = 0.0) -> list[str]:
        """Poll some seconds from now, and start new runs as Airflow does; return them."""
        looked = datetime.now(UTC) + timedelta(seconds=after)
        seen = difference(self.known, dict(refs))
        changes = seen["refs"]
        watched = {
            "changes": changes,
            "gone": seen["gone"],
            "since": self.since.isoformat() if self.since else None,
            "looked": looked.isoformat(),
        }
        run = Run(spec())
        run.leave("watch", watched)
        step = MatchOperator(task_id="match", cursor=self.cursor, **self.how)
        context = run.context("match")
        ti = context["ti"]
        context["ti"] = SimpleNamespace(
            xcom_pull=ti.xcom_pull,
            xcom_push=ti.xcom_push,
            get_dr_count=self.get_dr_count,
            get_task_states=self.get_task_states,
        )
        with pytest.MonkeyPatch.context() as patch:
            # The step's own process has a supervisor, unlike that of the receiver.
            patch.setattr(task_runner, "SUPERVISOR_COMMS", self, raising=False)
            patch.setattr(absence, "read_variable", self.get)
            wanted = step.execute(context)
        made = [one["trigger_run_id"] for one in wanted if self._start(one)]
        self.known, self.since = dict(refs), looked
        self.stored.saw(self.cursor, refs, looked)
        return made

    def _start(self, wanted: dict[str, Any]) -> bool:
        """Do what a request of TriggerDagRunOperator does."""
        from airflow.api.common.trigger_dag import trigger_dag
        from airflow.exceptions import DagRunAlreadyExists
        from airflow.utils.types import DagRunTriggeredByType, DagRunType

        try:
            trigger_dag(
                dag_id=wanted["trigger_dag_id"],
                run_id=wanted["trigger_run_id"],
                conf=wanted["conf"],
                run_type=DagRunType.OPERATOR_TRIGGERED,
                triggered_by=DagRunTriggeredByType.OPERATOR,
            )
        except DagRunAlreadyExists:
            return False
        return True


@pytest.fixture
def sensor(stored: Stored) -> Sensor:
    """The sensor of the git source, after its first poll."""
    stored.add(spec(), images())
    return Sensor(stored)


def test_the_webhook_first(stored: Stored, receiver: Receiver, sensor: Sensor) -> None:
    """The sensor finds what the webhook reported, gives it the same id, and starts nothing."""
    made = receiver.push(MAIN, "", A).made
    assert (len(made), sensor.look({MAIN: A}, after=30)) == (1, [])
    assert stored.runs() == [("shop", made[0])]


def test_the_sensor_first(stored: Stored, receiver: Receiver, sensor: Sensor) -> None:
    """A later webhook names the sensor's run."""
    made = sensor.look({MAIN: A})
    found = receiver.push(MAIN, "", A)
    assert (len(made), found.made, found.run_ids) == (1, [], made)
    assert [outcome.why for outcome in found.entries[0].outcomes] == ["the sensor saw it first"]


def test_webhooks_that_were_lost(stored: Stored, receiver: Receiver, sensor: Sensor) -> None:
    """After an hour without webhooks, the sensor finds every ref that moved, and webhooks continue from there."""
    receiver.push(MAIN, "", A)
    assert sensor.look({MAIN: A}, after=30) == []
    made = sensor.look({MAIN: B, V1: A, "refs/tags/v2": A, "refs/heads/other": A}, after=60)
    assert [one.split("__")[1] for one in made] == ["main", "v1", "v2"]
    assert len(receiver.push(MAIN, B, C).made) == 1
    assert len(stored.runs()) == 5


def test_there_and_back_by_turns(
    stored: Stored, receiver: Receiver, sensor: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A by webhook, B by the sensor alone, A by webhook again: three runs, each for one push."""
    first = receiver.push(MAIN, "", A).made
    assert sensor.look({MAIN: A}, after=30) == []
    second = sensor.look({MAIN: B}, after=60)
    later = SimpleNamespace(now=lambda zone: datetime.now(zone) + timedelta(seconds=75))
    monkeypatch.setattr(receiver_module, "datetime", later)
    third = receiver.push(MAIN, B, A).made
    assert [len(one) for one in (first, second, third)] == [1, 1, 1]
    assert len({*first, *second, *third}) == 3
    assert sensor.look({MAIN: A}, after=90) == []


def test_a_dag_that_could_not_run_is_made_good(stored: Stored, receiver: Receiver, sensor: Sensor) -> None:
    """The webhook found import errors and asked for a redelivery; once they are fixed, the sensor starts the run."""
    stored.mark("shop", has_import_errors=True)
    assert receiver.push(MAIN, "", A).status == 503
    stored.mark("shop", has_import_errors=False)
    assert len(sensor.look({MAIN: A}, after=30)) == 1


def test_what_a_delivery_left_the_sensor_starts(
    stored: Stored, receiver: Receiver, sensor: Sensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs beyond the limit of one delivery."""
    monkeypatch.setattr("delivery_chain.web.intake.MOST_RUNS", 2)
    monkeypatch.setattr(sources, "MOST_RUNS", 1000)
    refs = {f"refs/tags/v{number}": A for number in range(5)}
    found = receiver.deliver(moved(*((ref, "", A) for ref in refs)))
    made = sensor.look(refs, after=30)
    assert (len(found.made), len(made), len(set(stored.runs()))) == (2, 3, 5)


def test_a_superseded_run_is_no_run(stored: Stored, receiver: Receiver, sensor: Sensor) -> None:
    """A run found that its branch had moved, and was skipped; the sensor sees the commit later, and starts another."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import update

    (first,) = receiver.push(MAIN, "", A).made
    with create_session() as session:
        session.execute(
            update(TaskInstance)
            .where(TaskInstance.run_id == first, TaskInstance.task_id == "plan")
            .values(state="skipped")
        )
        session.execute(update(DagRun).where(DagRun.run_id == first).values(end_date=datetime.now(UTC)))
    assert len(sensor.look({MAIN: A}, after=30)) == 1


def test_images_by_both(stored: Stored, receiver: Receiver) -> None:
    """The same for a registry's tags: each recognizes what the other saw."""
    stored.add(images())
    watch = Sensor(stored, IMAGES, images_of="home", specs=[images()])
    found = receiver.deliver(pushed(("base/python", "v1", DIGEST)))
    assert watch.look({"base/python:v1": DIGEST}, after=30) == []
    made = watch.look({"base/python:v1": OTHER_DIGEST}, after=60)
    again = receiver.deliver(pushed(("base/python", "v1", OTHER_DIGEST)))
    assert (len(found.made), len(made), again.made, again.run_ids) == (1, 1, [], made)
    assert told_key(IMAGES) in stored.variables()


def test_words_that_come_after_the_sensor_saw_all(stored: Stored, receiver: Receiver, sensor: Sensor) -> None:
    """The receiver was down during two pushes, and their webhooks arrive after the sensor has started both."""
    for number, after in ((A, -900), (B, -600), (C, -300)):
        assert len(sensor.look({MAIN: number}, after=after)) == 1
    moves = [(A, B, "one"), (B, C, "two"), (A, B, "one")]
    told = [receiver.push(MAIN, before, after, delivery=name) for before, after, name in moves]
    assert ([one.made for one in told], len(stored.runs())) == ([[], [], []], 3)
    assert sensor.look({MAIN: C}, after=30) == []


def test_words_of_images_that_come_after_the_sensor_saw_all(stored: Stored, receiver: Receiver) -> None:
    """A registry queued its notifications until the receiver was back."""
    stored.add(images())
    watch = Sensor(stored, IMAGES, images_of="home", specs=[images()])
    for digest, after in ((DIGEST, -600), (OTHER_DIGEST, -300)):
        assert len(watch.look({"base/python:v1": digest}, after=after)) == 1
    told = [receiver.deliver(pushed(("base/python", "v1", one))) for one in (DIGEST, OTHER_DIGEST)]
    assert ([one.made for one in told], len(stored.runs())) == ([[], []], 2)


def test_an_old_delivery_that_was_forgotten(stored: Stored, receiver: Receiver, sensor: Sensor) -> None:
    """After more pushes than are remembered, an old one is redelivered: its run is found, and nothing is started."""
    commits = ["", *(commit(number) for number in range(1, 13))]
    for number, (before, after) in enumerate(pairwise(commits)):
        receiver.push(MAIN, before, after, delivery=f"d{number}")
    again = receiver.push(MAIN, commits[2], commits[3], delivery="d2")
    assert (again.made, [entry.why for entry in again.entries], len(stored.runs())) == (
        [],
        ["a redelivery"],
        12,
    )
    assert sensor.look({MAIN: commits[-1]}, after=30) == []


def test_an_image_of_a_chain_that_builds_is_not_another_ones(stored: Stored) -> None:
    """A chain for the rest of a namespace takes nothing that another chain lists and builds."""
    rest = images("rest", scope={"instance": "home", "namespace": "shop", "all": True})
    stored.add(spec(), rest)
    watch = Sensor(stored, images_dag_id("home", "shop"), images_of="home", specs=[spec(), rest])
    assert watch.look({"shop/api:edge": DIGEST}, after=30) == []
    assert len(watch.look({"shop/api:edge": DIGEST, "shop/other:v1": DIGEST}, after=60)) == 1


def test_a_cursor_that_a_person_wrote(stored: Stored, receiver: Receiver, sensor: Sensor) -> None:
    """A time without a zone is UTC."""
    stored.saw(WATCH, {MAIN: A}, datetime(2026, 1, 31, 12))  # noqa: DTZ001 - what is tested
    found = [receiver.push(MAIN, *move) for move in ((A, B), (B, C))]
    assert [len(one.made) for one in found] == [1, 1]


def test_a_push_that_could_not_be_started_is_not_known(stored: Stored, receiver: Receiver) -> None:
    """No Dag watches the images of a chain that builds: once its Dag works again, the redelivery starts the run."""
    stored.add(spec())
    stored.mark("shop", has_import_errors=True)
    said = pushed(("shop/api", "v9", DIGEST))
    assert receiver.deliver(said, delivery="one").status == 503
    stored.mark("shop", has_import_errors=False)
    assert len(receiver.deliver(said, delivery="one").made) == 1
