# ruff: noqa: PLC0415 - Airflow takes seconds to import; only the tests that run pay
"""Records of pushes in a database of Airflow's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from delivery_chain.core.events.ledger import EVENT, Entry, Looked, StartResult
from delivery_chain.core.events.watch_dags import source_dag_id
from delivery_chain.core.spec.model import Source
from delivery_chain.core.xcom_keys import LEDGER

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
A, B = "a" * 40, "b" * 40
PLACE = source_dag_id(Source(connection="git_shop", url="shop/api.git"))
QUIET = source_dag_id(Source(connection="git_other", url="quiet.git"))
CHAIN = "shop-api"
HOOK = "webhook gh"


def entry(ref: str = "refs/tags/v1", ago: float = 600, **given: Any) -> Entry:
    """An entry as left by a webhook or the sensor; `ago` is in seconds."""
    whole = {"ref": ref, "commit": A, "at": NOW - timedelta(seconds=ago), "by": HOOK}
    return (Looked if "sensor" in given.values() else Entry).model_validate(whole | given)


def run_of(ref: str, *, made: bool) -> tuple[StartResult, ...]:
    return (StartResult(chain=CHAIN, rule="release", run_id=f"run-{ref[-2:]}", made=made),)


class Records:
    """Writes the records that webhooks and sensors leave."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.runs = 0

    def told(self, place: str | None, *entries: Entry, extra: str = "") -> None:
        from airflow.models.log import Log
        from sqlalchemy import insert

        for one in entries:
            text = extra or one.model_dump_json(exclude_defaults=True)
            row = {"dttm": one.at, "dag_id": place, "event": EVENT, "owner": one.by, "extra": text}
            self.session.execute(insert(Log), [row])

    def looked(self, place: str, *entries: Entry, value: Any = None, state: str = "success") -> None:
        from airflow.models.dagrun import DagRun
        from airflow.models.taskinstance import TaskInstance
        from airflow.models.xcom import XComModel
        from airflow.utils.types import DagRunTriggeredByType, DagRunType

        self.runs += 1
        run_id = f"scheduled__{self.runs}"
        run = DagRun(
            dag_id=place,
            run_id=run_id,
            run_type=DagRunType.MANUAL,
            state=state,
            run_after=NOW,
            triggered_by=DagRunTriggeredByType.TEST,
        )
        self.session.add(run)
        self.session.flush()
        version = self.versions[place]
        task = TaskInstance(self.tasks["match"], dag_version_id=version, run_id=run_id)
        task.dag_id, task.map_index = place, -1
        self.session.add(task)
        self.session.flush()
        found = [one.to_xcom() for one in entries] if value is None else value
        XComModel.set(
            key=LEDGER, value=found, task_id="match", dag_id=place, run_id=run_id, session=self.session
        )
        self.session.flush()

    def planned(self, run_id: str, state: str | None, *, error: str = "", by: str = "plan") -> None:
        """A chain's run whose task `plan` has a state, and the error that the task left as its reason."""
        from airflow.models.dagrun import DagRun
        from airflow.models.taskinstance import TaskInstance
        from airflow.models.xcom import XComModel
        from airflow.utils.types import DagRunTriggeredByType, DagRunType

        from delivery_chain.core.seal import Place, sealed
        from delivery_chain.hooks.signing_secret import signing_secret

        about = {"run_type": DagRunType.MANUAL, "triggered_by": DagRunTriggeredByType.TEST, "run_after": NOW}
        self.session.add(DagRun(dag_id=CHAIN, run_id=run_id, state="running", **about))
        self.session.flush()
        task = TaskInstance(
            self.tasks["match"], dag_version_id=self.versions[CHAIN], run_id=run_id, state=state
        )
        task.dag_id, task.task_id, task.map_index, task.try_number = CHAIN, "plan", -1, 1
        task.end_date = NOW - timedelta(minutes=1)
        self.session.add(task)
        self.session.flush()
        if error:
            place = Place(CHAIN, run_id, by, key="reason")
            value = sealed({"reason": "because", "error": error}, place, signing_secret())
            XComModel.set(
                key="reason", value=value, task_id="plan", dag_id=CHAIN, run_id=run_id, session=self.session
            )
        self.session.flush()

    def dags(self) -> None:
        """Two sensors' Dags and a chain's."""
        from airflow.models.dag_version import DagVersion
        from airflow.models.dagbundle import DagBundleModel
        from airflow.models.serialized_dag import SerializedDagModel
        from airflow.providers.standard.operators.empty import EmptyOperator
        from airflow.sdk import DAG
        from airflow.serialization.definitions.dag import SerializedDAG
        from airflow.serialization.serialized_objects import LazyDeserializedDAG

        self.session.merge(DagBundleModel(name="tests"))
        self.session.flush()
        self.versions: dict[str, Any] = {}
        for dag_id, title in ((PLACE, "source git_shop shop/api.git"), (QUIET, "source q"), (CHAIN, CHAIN)):
            with DAG(dag_id, schedule=None, dag_display_name=title) as dag:
                EmptyOperator(task_id="match")
            lazy = LazyDeserializedDAG.from_dag(dag)
            SerializedDAG.bulk_write_to_db("tests", None, [lazy], session=self.session)
            SerializedDagModel.write_dag(lazy, bundle_name="tests", session=self.session)
            self.session.flush()
            version = DagVersion.get_latest_version(dag_id, session=self.session)
            assert version is not None
            self.versions[dag_id] = version.id
            self.tasks = SerializedDagModel.get_dag(dag_id, session=self.session).task_dict  # type: ignore[union-attr]
