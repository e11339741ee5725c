# ruff: noqa: PLC0415 - Airflow takes seconds to import; only the tests that run pay
"""The listener inside real scheduler steps on a SQLite database of Airflow's: runs that begin, end and go on."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zlib import crc32

import pytest

from delivery_chain.core.event import Kind
from delivery_chain.core.gate import Hit, Verdict
from delivery_chain.core.plan import Plan, Planned
from delivery_chain.core.results import DeliveryResult, Published, Record, RegionResult, Subject, TagMove
from delivery_chain.core.seal import Place, sealed
from delivery_chain.core.spec import ChainSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.orm import Session

pytestmark = pytest.mark.integration
RUN = "manual__1"
DAY = datetime(2026, 1, 1, tzinfo=UTC)
DIGEST = "sha256:" + "9" * 64
TITLE = "shop/api v7 at sha256:999999999999"
OURS = "delivery-chain"
DELIVERED = f"delivered: {TITLE} passed without a scan, published, copied to west, 1 trigger fired"
BLOCKED = f"blocked: 3 findings; {TITLE}"
SEARCHED = "blocked: 3 findings"


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


@pytest.fixture(scope="module")
def database() -> Iterator[None]:
    from airflow.listeners.listener import get_listener_manager
    from airflow.utils.db import initdb
    from airflow.utils.session import create_session

    from delivery_chain import listener

    with create_session() as session:
        initdb(session=session)
    manager = get_listener_manager()
    manager.add_listener(listener)
    yield
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

        from delivery_chain import factory

        made = factory.make_chain_dag(spec_of(self.dag_id))
        made.tags = set(self.tags)
        return DagSerialization.deserialize_dag(DagSerialization.serialize_dag(made))

    def create(self) -> None:
        """A run whose tasks have not begun."""
        from airflow.models.dagbundle import DagBundleModel
        from airflow.models.serialized_dag import SerializedDagModel
        from airflow.serialization.definitions.dag import SerializedDAG
        from airflow.serialization.serialized_objects import LazyDeserializedDAG
        from airflow.utils.session import create_session
        from airflow.utils.types import DagRunTriggeredByType, DagRunType

        from delivery_chain import factory

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
        """What the button of a task instance's page does."""
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session
        from sqlalchemy import delete

        about = (TaskInstance.dag_id == self.dag_id, TaskInstance.task_id.in_(tasks))
        with create_session() as session:
            session.execute(delete(TaskInstance).where(*about))

    def states(self, default: str = "success", **states: str) -> None:
        """Let the tasks be in these states."""
        from airflow.utils.session import create_session

        with create_session() as session:
            for one in self.run(session).get_task_instances(session=session):
                one.state = states.get(one.task_id, default)
                one.try_number = max(one.try_number, 1)

    def leave(self, **left: Any) -> None:
        """Let tasks have left values under their seals; anything that is no value of ours as it is."""
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session

        from delivery_chain.hooks.signing import signing_secret

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
        """A row of the event log, as the REST API writes it."""
        import json

        from airflow.models.log import Log
        from airflow.utils.session import create_session

        with create_session() as session:
            session.add(Log(event, owner=owner, dag_id=self.dag_id, run_id=RUN, extra=json.dumps(extra)))

    def end(self, times: int = 1) -> str:
        """What the scheduler does with a run whose tasks have ended, its guard against early commits included."""
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
        """What the scheduler does with a run that begins or goes on."""
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

    def instances(self) -> dict[str, tuple[str, int, int, str]]:
        """State, try, most tries and name of each task instance."""
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
        """The earlier tries that Airflow still knows of, and so finds the logs of."""
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
        """As Airflow's REST API does it."""
        from airflow.utils.session import create_session

        with create_session() as session:
            run = self.run(session)
            if run.dag_run_note is None:
                run.note = (note, by)
            else:
                run.dag_run_note.content, run.dag_run_note.user_id = note, by


@pytest.fixture
def chain(database: None, request: pytest.FixtureRequest) -> Chain:
    """A run that has begun."""
    made = Chain(
        f"chain-{crc32(request.node.nodeid.encode())}", getattr(request, "param", ("delivery-chain",))
    )
    made.create()
    return made


def test_a_run_that_ended_says_how(chain: Chain) -> None:
    """One that delivered is green, and its note is its outcome."""
    chain.states(quarantine="skipped", denied="skipped")
    chain.deliver()
    assert (chain.end(), chain.note) == ("success", (DELIVERED, OURS))


def test_a_run_is_what_its_report_is(chain: Chain) -> None:
    """A blocked run is failed by it, whatever state its other tasks have."""
    chain.states(report="failed", publish="skipped", replicate="skipped", distribute="skipped")
    chain.deliver(REFUSED)
    assert (chain.end(), chain.note) == ("failed", (BLOCKED, OURS))


@pytest.mark.parametrize("state", ["success", "failed"])
def test_who_cancelled_a_run_is_in_its_note(chain: Chain, state: str) -> None:
    """Also where it was stopped by being marked as a success."""
    chain.states("skipped", plan="success", build="failed" if state == "failed" else state, report="failed")
    chain.leave(plan=Planned(plan=plan_of(chain.dag_id), spec=spec_of(chain.dag_id)))
    chain.mark("patch_dag_run", "anna", state=state)
    where = {"failed": "build", "success": "assemble"}[state]
    assert (chain.end(), chain.note) == (
        "failed",
        (f"cancelled by anna in {where}; shop/api v7 was not published", OURS),
    )


def test_a_bulk_request_names_the_run_in_its_body(chain: Chain) -> None:
    """As the list of runs sends it, where several are chosen."""
    chain.states("skipped", plan="failed", report="failed")
    entities = [{"dag_run_id": "other", "state": "success"}, {"dag_run_id": RUN, "state": "failed"}]
    chain.mark("bulk_dag_runs", "anna", actions=[{"action": "update", "entities": entities}])
    chain.end()
    assert chain.note == ("cancelled by anna in plan; nothing was built", OURS)


def test_a_blocked_run_that_is_marked_green_is_blocked(chain: Chain) -> None:
    """Airflow's state is what somebody made of it; the note says what happened, and who did that."""
    chain.states(publish="skipped", replicate="skipped", distribute="skipped")
    chain.deliver(REFUSED)
    chain.mark("patch_dag_run", "bob", state="success")
    assert (chain.end(), chain.note) == ("success", (f"{BLOCKED}; marked as success by bob", OURS))


def test_a_run_that_is_cleared_with_downstream_has_no_old_end(chain: Chain) -> None:
    """The report is cleared with the rest, so nothing is left to be reset; the old note is out of date all the same."""
    chain.states("upstream_failed", plan="failed", report="failed")
    assert chain.end() == "failed"
    chain.mark("post_clear_task_instances", "carl", dry_run=False, task_ids=["plan"])
    chain.clear("plan")
    chain.clear("report")
    chain.begin()
    assert chain.note == ("going on: cleared by carl", OURS)


def test_a_run_that_goes_on_tells_its_end_anew(chain: Chain) -> None:
    """One cleared task is enough: the report runs again, with all its tries, and the note is true again."""
    chain.states(distribute="failed", report="failed", quarantine="skipped", denied="skipped")
    chain.deliver()
    assert chain.end() == "failed"
    assert chain.note is not None
    assert chain.note[0].startswith("partly delivered: ")
    chain.mark("post_clear_task_instances", "carl", dry_run=False, task_ids=["distribute"])
    chain.clear("distribute")
    before = chain.instances()["report"]
    chain.begin()
    assert chain.note == ("going on: cleared by carl", OURS)
    assert (before[:2], chain.instances()["report"][:2]) == (("failed", 1), ("", 1))
    assert (chain.instances()["report"][2], chain.tries("report")) == (
        1 + chain.dag.get_task("report").retries,
        [1],
    )
    chain.states(quarantine="skipped", denied="skipped")
    assert (chain.end(), chain.note) == ("success", (DELIVERED, OURS))


@pytest.mark.parametrize(("clears", "state"), [(0, "queued"), (1, "failed")])
def test_what_is_cleared_while_the_report_runs_is_told(chain: Chain, clears: int, state: str) -> None:
    """The report had read the states before: it runs again, once, for its state is the run's."""
    chain.states(report="running", quarantine="skipped", denied="skipped")
    chain.deliver()
    chain.leave(report=Record(chain="c", image="i", tags=(), sentence="partly delivered", clears=clears))
    chain.clear("distribute")
    chain.states(report="failed", quarantine="skipped", denied="skipped")
    assert chain.end() == state
    if state == "queued":
        chain.begin()
        assert chain.instances()["report"][0] == ""


def test_a_person_who_marks_a_run_ends_it(chain: Chain) -> None:
    """Whatever was cleared before: nothing goes on against their will."""
    from airflow.utils.session import create_session

    chain.states(report="failed")
    chain.leave(report=Record(chain="c", image="i", tags=(), sentence="partly delivered"))
    chain.clear("distribute")
    with create_session() as session:
        run = chain.run(session)
        run.state = "failed"
        run.notify_dagrun_state_changed(msg="Dag Run's state was manually set to `failed`.")
        assert run.state == "failed"


def test_a_run_goes_on_as_often_as_one_likes(chain: Chain) -> None:
    """Each time the report is tried anew, and no try is forgotten."""
    for number in range(1, 4):
        chain.states(distribute="failed", report="failed")
        from airflow.utils.session import create_session

        with create_session() as session:
            for one in chain.run(session).get_task_instances(session=session):
                one.try_number = number
        assert chain.end() == "failed"
        chain.clear("distribute")
        chain.begin()
    assert chain.tries("report") == [1, 2, 3]


def test_mapped_tasks_have_their_names_before_they_run(chain: Chain) -> None:
    """A skipped region or trigger is called by its name, too."""
    chain.begin()
    names = {name: one[3] for name, one in chain.instances().items() if one[3]}
    assert names == {
        "scan0": "linux/amd64",
        "scan1": "linux/arm64",
        "scan2": "other platforms",
        "replicate0": "west",
        "distribute0": "prod",
    }


def test_a_run_that_goes_on_has_its_deleted_tasks_again(chain: Chain) -> None:
    """What follows them would wait for ever; Airflow itself makes only mapped ones anew."""
    before = chain.instances()
    chain.delete("plan", "publish", "report")
    chain.begin()
    after = chain.instances()
    assert {name: one[:3] for name, one in after.items()} == {name: one[:3] for name, one in before.items()}


def test_the_end_of_a_run_names_the_task_that_was_deleted(chain: Chain) -> None:
    """Nobody can clear what is not there; the run can be."""
    chain.states(quarantine="skipped", denied="skipped")
    chain.leave(plan=Planned(plan=plan_of(chain.dag_id), spec=spec_of(chain.dag_id)))
    chain.leave(assemble=Subject(digest=DIGEST, media_type="m", size=1), gate=PASSED)
    chain.delete("publish")
    chain.states(report="failed")
    chain.end()
    assert chain.note is not None
    assert chain.note[0].startswith(f"failed in publish: its task was deleted: clear the run; {TITLE} ")


def test_a_run_that_begins_is_left_as_it_is(chain: Chain) -> None:
    """There is nothing to tell anew, and no note."""
    before = {name: one[:3] for name, one in chain.instances().items()}
    chain.begin()
    assert ({name: one[:3] for name, one in chain.instances().items()}, chain.note) == (before, None)


@pytest.mark.parametrize("by", ["anna", None])
def test_a_persons_note_stays(chain: Chain, by: str | None) -> None:
    """What somebody wrote, or what came with the trigger, is never overwritten: not at an end, nor when it goes on."""
    chain.states(report="failed")
    chain.write("mine", by)
    chain.end()
    chain.begin()
    assert chain.note == ("mine", by)


def test_the_form_that_marks_a_run_leaves_an_empty_note(chain: Chain) -> None:
    """Nobody wrote anything: the run says how it ended."""
    chain.states("skipped", plan="success", build="failed", report="failed")
    chain.leave(plan=Planned(plan=plan_of(chain.dag_id), spec=spec_of(chain.dag_id)))
    chain.mark("patch_dag_run", "anna", state="failed", note=None)
    chain.write(None, "anna")
    chain.end()
    assert chain.note == ("cancelled by anna in build; shop/api v7 was not published", OURS)


def test_the_form_that_marks_a_run_sends_our_note_back(chain: Chain) -> None:
    """Under the name of whoever marked it: it is ours all the same, and is true again when the run ends anew."""
    chain.states(quarantine="skipped", denied="skipped")
    chain.deliver()
    chain.end()
    chain.write(DELIVERED, "anna")
    chain.mark("clear_dag_run", "carl")
    chain.begin()
    assert chain.note == ("going on: cleared by carl", OURS)
    chain.write("going on: cleared by carl", "anna")
    chain.states(quarantine="skipped", denied="skipped")
    chain.end()
    assert chain.note == (DELIVERED, OURS)


def test_a_person_may_add_to_our_note(chain: Chain) -> None:
    """Then it is theirs."""
    chain.states(quarantine="skipped", denied="skipped")
    chain.deliver()
    chain.end()
    chain.write(f"{DELIVERED}. Rolled back by hand", "anna")
    chain.begin()
    chain.states(quarantine="skipped", denied="skipped")
    chain.end()
    assert chain.note == (f"{DELIVERED}. Rolled back by hand", "anna")


def test_our_own_note_is_brought_up_to_date(chain: Chain) -> None:
    """A run that was cleared and ends again has the outcome of its last end."""
    chain.states(quarantine="skipped", denied="skipped")
    chain.deliver()
    chain.write("old", OURS)
    chain.end(times=2)
    assert chain.note == (DELIVERED, OURS)


@pytest.mark.parametrize("chain", [("nightly",)], indirect=True)
def test_other_dags_are_left_alone(chain: Chain) -> None:
    """Without the tag tasks of these names mean nothing."""
    chain.states(report="failed")
    chain.deliver()
    chain.end()
    chain.begin()
    assert (chain.note, chain.instances()["report"][0]) == (None, "failed")


FORGED = REFUSED.model_copy(update={"passed": True, "hits": ()}).to_xcom()


@pytest.mark.parametrize("gate", ["text", ["x"], {"passed": True}, FORGED, {}])
def test_a_verdict_that_somebody_edited_is_not_believed(chain: Chain, gate: Any) -> None:
    """Who may edit XComs writes neither the run's note nor its end with them."""
    chain.states(quarantine="skipped", denied="skipped")
    chain.deliver()
    chain.leave(gate=gate)
    chain.end()
    assert chain.note is not None
    assert chain.note[0].startswith("NOT TO BE TRUSTED: what gate left was changed afterwards; ")
    assert "delivered" not in chain.note[0]


def test_a_verdict_that_somebody_removed_is_missed(chain: Chain) -> None:
    """The record of the first end knows of it."""
    chain.states(publish="skipped", replicate="skipped", distribute="skipped")
    chain.leave(plan=Planned(plan=plan_of(chain.dag_id), spec=spec_of(chain.dag_id)))
    chain.leave(report=Record(chain="c", image="shop/api", tags=(), verdict=SEARCHED, sentence="x"))
    chain.end()
    assert chain.note is not None
    assert chain.note[0].endswith("; its verdict was removed; marked as success by hand")


def test_a_long_sentence_is_cut(chain: Chain) -> None:
    """Airflow's column takes 1000 characters."""
    chain.states(report="failed", publish="skipped", replicate="skipped", distribute="skipped")
    chain.deliver(REFUSED.model_copy(update={"hits": (Hit(clause="x" * 2000, count=3),)}))
    chain.end()
    assert chain.note == (f"blocked: 3 {'x' * 989}", OURS)
