# ruff: noqa: PLC0415 - Airflow takes seconds to import; only the tests that run pay
"""The listener inside a real scheduler step: `DagRun.update_state` on a SQLite database of Airflow's."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from zlib import crc32

import pytest

from delivery_chain.core.gate import Hit, Verdict
from delivery_chain.core.results import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.orm import Session

pytestmark = pytest.mark.integration
SENTENCE = "shop/api:v1 passed and is in 2 regions."
RUN = "manual__1"


def record(sentence: str = SENTENCE, verdict: str = "") -> Record:
    return Record(chain="c", image="shop/api", tags=(), sentence=sentence, verdict=verdict)


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


@pytest.fixture
def finish(database: None, request: pytest.FixtureRequest) -> Callable[..., tuple[str, str] | None]:
    """Let a run of one finished task end in the scheduler's way; gives note and author."""
    from airflow.models.dagrun import DagRunNote
    from airflow.utils.session import create_session

    def run(
        state: str = "success",
        report: Any = None,
        *,
        gate: Any = None,
        tags: tuple[str, ...] = ("delivery-chain",),
        note: tuple[str, str | None] | None = None,
        times: int = 1,
    ) -> tuple[str, str] | None:
        dag_id = f"chain-{crc32(request.node.nodeid.encode())}"
        with create_session() as session:
            dag_run = _make(session, dag_id, tags, state, {"report": report, "gate": gate})
            if note is not None:
                dag_run.note = note
            run_id = dag_run.id
        for _ in range(times):
            _schedule(run_id, dag_id, tags)
        with create_session() as session:
            row = session.get(DagRunNote, run_id)
            return None if row is None else (row.content, row.user_id)

    return run


def _dag(dag_id: str, tags: tuple[str, ...]) -> Any:
    from airflow.providers.standard.operators.empty import EmptyOperator
    from airflow.sdk import DAG

    with DAG(dag_id, schedule=None, tags=list(tags)) as dag:
        EmptyOperator(task_id="gate") >> EmptyOperator(task_id="report")
    return dag


def _sealed(value: Any, dag_id: str, task: str, run_id: str = RUN) -> Any:
    """As a step leaves a value of ours; anything else as it is."""
    from delivery_chain.core.seal import Place, sealed
    from delivery_chain.hooks.signing import signing_secret

    if not hasattr(value, "to_xcom"):
        return value
    return sealed(value.to_xcom(), Place(dag_id, run_id, task), signing_secret())


def _make(session: Session, dag_id: str, tags: tuple[str, ...], state: str, left: dict[str, Any]) -> Any:
    from airflow.models.dag import DagModel
    from airflow.models.dag_version import DagVersion
    from airflow.models.dagbundle import DagBundleModel
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.models.xcom import XComModel
    from airflow.serialization.definitions.dag import SerializedDAG
    from airflow.serialization.serialized_objects import DagSerialization, LazyDeserializedDAG
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    if session.get(DagBundleModel, "tests") is None:
        session.add(DagBundleModel(name="tests"))
        session.flush()
    dag = _dag(dag_id, tags)
    serialized = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    lazy = LazyDeserializedDAG.from_dag(dag)
    SerializedDAG.bulk_write_to_db("tests", None, [lazy], session=session)
    SerializedDagModel.write_dag(lazy, bundle_name="tests", session=session)
    session.flush()
    assert session.get(DagModel, dag_id) is not None
    assert DagVersion.get_latest_version(dag_id, session=session) is not None
    dag_run = serialized.create_dagrun(
        run_id=RUN,
        run_type=DagRunType.MANUAL,
        state="running",
        run_after=datetime(2026, 1, 1, tzinfo=UTC),
        triggered_by=DagRunTriggeredByType.TEST,
        session=session,
    )
    for instance in dag_run.get_task_instances(session=session):
        instance.state = "success" if instance.task_id == "gate" else state
    session.flush()
    for task, value in left.items():
        if value is not None:
            XComModel.set(
                key="return_value",
                value=_sealed(value, dag_id, task),
                task_id=task,
                dag_id=dag_id,
                run_id=RUN,
                session=session,
            )
    return dag_run


def _schedule(run_id: int, dag_id: str, tags: tuple[str, ...]) -> None:
    """What the scheduler does with a run whose tasks have ended, its guard against early commits included."""
    from airflow.models.dagrun import DagRun
    from airflow.serialization.serialized_objects import DagSerialization
    from airflow.utils.session import create_session
    from airflow.utils.sqlalchemy import prohibit_commit

    with create_session() as session, prohibit_commit(session) as guard:
        dag_run = session.get(DagRun, run_id)
        assert dag_run is not None
        dag_run.state = "running"
        dag_run.dag = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(_dag(dag_id, tags)))
        dag_run.update_state(session=session)
        assert dag_run.state in {"success", "failed"}
        guard.commit()


@pytest.mark.parametrize("state", ["success", "failed"])
def test_the_sentence_becomes_the_note(finish: Callable[..., Any], state: str) -> None:
    """A run that passed and one that was blocked both say in their note what came of them."""
    assert finish(state, record()) == (SENTENCE, "delivery-chain")


def test_a_persons_note_stays(finish: Callable[..., Any]) -> None:
    """What somebody wrote is never overwritten."""
    assert finish(report=record(), note=("mine", "anna")) == ("mine", "anna")


def test_a_note_of_unknown_origin_stays(finish: Callable[..., Any]) -> None:
    """A note that came with the trigger has no author, and may be a person's."""
    assert finish(report=record(), note=("from the command line", None)) == (
        "from the command line",
        None,
    )


def test_our_own_note_is_brought_up_to_date(finish: Callable[..., Any]) -> None:
    """A run that was cleared and ends again has the summary of its last end."""
    assert finish(report=record(), note=("old", "delivery-chain"), times=2) == (
        SENTENCE,
        "delivery-chain",
    )


def test_other_dags_are_left_alone(finish: Callable[..., Any]) -> None:
    """Without the tag a task of that name means nothing."""
    assert finish(report=record(), tags=("nightly",)) is None


@pytest.mark.parametrize("report", [None, record("  ")])
def test_a_run_without_a_summary_has_no_note(finish: Callable[..., Any], report: Any) -> None:
    """A report without a sentence disturbs nothing: the run ends as ever."""
    assert finish(report=report) is None


@pytest.mark.parametrize("report", ["text", ["sentence"], {"sentence": 7}, {"sentence": SENTENCE}, {}])
def test_a_report_that_somebody_edited_is_not_noted(finish: Callable[..., Any], report: Any) -> None:
    """Who may edit XComs does not write the run's note with them: the note says what happened."""
    changed = "NOT TO BE TRUSTED: what report left was changed afterwards"
    assert finish(report=report) == (changed, "delivery-chain")


BLOCKED = Verdict(
    digest="sha256:1",
    passed=False,
    judged_at=datetime(2026, 1, 1, tzinfo=UTC),
    hits=(Hit(clause="x", count=3),),
)
LINE = "shop/api v1 blocked: 3 x"
FORGED = BLOCKED.model_copy(update={"passed": True, "hits": ()}).to_xcom()


@pytest.mark.parametrize(
    ("gate", "state", "verdict", "note"),
    [
        (BLOCKED, "failed", "blocked: 3 x", LINE),
        (BLOCKED, "success", "blocked: 3 x", f"{LINE}; marked as success by hand"),
        (
            FORGED,
            "success",
            "blocked: 3 x",
            f"NOT TO BE TRUSTED: what gate left was changed afterwards; {LINE}",
        ),
        (None, "success", "blocked: 3 x", f"{LINE}; its verdict was removed"),
        (None, "failed", "", LINE),
    ],
)
def test_a_blocked_run_is_noted_as_blocked_whatever_is_done_to_it(
    finish: Callable[..., Any], gate: Any, state: str, verdict: str, note: str
) -> None:
    """Marking its tasks as success, or editing or removing its verdict, is said beside what the gate said."""
    assert finish(state, record(LINE, verdict), gate=gate) == (note, "delivery-chain")


def test_a_long_sentence_is_cut(finish: Callable[..., Any]) -> None:
    """Airflow's column takes 1000 characters."""
    assert finish(report=record("x" * 2000)) == ("x" * 1000, "delivery-chain")
