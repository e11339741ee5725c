# ruff: noqa: PLC0415 - Airflow takes seconds to import; only the tests that run it pay for that
"""An Airflow database with chains and connections, for webhooks."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from delivery_chain.core.events.event import Event
from delivery_chain.core.events.ledger import Entry
from delivery_chain.core.spec.in_force import INDEX, Kept, State, fingerprint, kept_key
from delivery_chain.core.spec.in_force import Entry as Version
from delivery_chain.core.spec.in_force import Index as InForce
from delivery_chain.core.spec.slots import widths
from support.webhook_airflow import BUNDLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from delivery_chain.core.spec.model import ChainSpec
    from delivery_chain.core.spec.standing import Standing


@dataclass(slots=True)
class Stored:
    """The contents of Airflow's database."""

    kind: str
    """`sqlite` or `postgresql`."""
    url: str = field(repr=False)

    def add(self, *specs: ChainSpec, standing: Standing | None = None) -> None:
        """Store chains as the Dag processor does: a row, and a new serialized version if something changed."""
        from delivery_chain.dag_files.factory import make_chain_dag

        self.add_dags(*(make_chain_dag(one, standing=standing) for one in specs))

    def add_dags(self, *dags: Any) -> None:
        """Store any Dags in the same way."""
        from airflow.models.dagbundle import DagBundleModel
        from airflow.models.serialized_dag import SerializedDagModel
        from airflow.serialization.definitions.dag import SerializedDAG
        from airflow.serialization.serialized_objects import LazyDeserializedDAG
        from airflow.utils.session import create_session

        with create_session() as session:
            if session.get(DagBundleModel, BUNDLE) is None:
                session.add(DagBundleModel(name=BUNDLE))
                session.flush()
            lazy = [LazyDeserializedDAG.from_dag(one) for one in dags]
            SerializedDAG.bulk_write_to_db(BUNDLE, None, lazy, session=session)
            for dag in lazy:
                SerializedDagModel.write_dag(dag, bundle_name=BUNDLE, session=session)
            session.flush()
        self.mark(*(one.dag_id for one in dags), is_paused=False)

    def put_in_force(self, *specs: ChainSpec, state: State = State.CURRENT) -> None:
        """Store the versions of chains as the Dag processor does before it stores their Dags."""
        from airflow.models.variable import Variable
        from airflow.utils.session import create_session

        chains = {
            one.name: Version(
                number=1,
                fingerprint=fingerprint(one),
                file=f"{one.name}.yaml",
                slots=widths(one),
                state=state,
            )
            for one in specs
        }
        with create_session() as session:
            for one in specs:
                kept = Kept.of(one, chains[one.name]).model_dump_json(exclude_defaults=True)
                Variable.set(kept_key(one.name), kept, session=session)
            Variable.set(
                INDEX, InForce(chains=chains).model_dump_json(exclude_defaults=True), session=session
            )

    def mark(self, *dag_ids: str, **values: Any) -> None:
        """Set columns of Dags: is_paused, is_stale, has_import_errors."""
        from airflow.models.dag import DagModel
        from airflow.utils.session import create_session
        from sqlalchemy import update

        with create_session() as session:
            session.execute(update(DagModel).where(DagModel.dag_id.in_(dag_ids)).values(**values))

    def clear(self) -> None:
        """Remove all runs, Dags, Variables and log rows."""
        from airflow import models
        from airflow.models.base import Base
        from airflow.utils.session import create_session
        from sqlalchemy import text

        assert models
        kept = {"alembic_version", "slot_pool", "log_template"}
        with create_session() as session:
            if self.kind == "sqlite":
                session.execute(text("PRAGMA defer_foreign_keys = ON"))
            if self.kind == "postgresql":
                names = ", ".join(f'"{name}"' for name in Base.metadata.tables if name not in kept)
                session.execute(text(f"TRUNCATE {names} CASCADE"))
                return
            for table in reversed(Base.metadata.sorted_tables):
                if table.name not in kept:
                    session.execute(table.delete())

    def runs(self, dag_id: str | None = None) -> list[tuple[str, str]]:
        """Dag id and run id of each run, in the order of creation."""
        from airflow.models.dagrun import DagRun
        from airflow.utils.session import create_session
        from sqlalchemy import select

        wanted = select(DagRun.dag_id, DagRun.run_id).order_by(DagRun.id)
        with create_session() as session:
            rows = session.execute(wanted.where(DagRun.dag_id == dag_id) if dag_id else wanted)
            return [(row.dag_id, row.run_id) for row in rows]

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Everything known about a run."""
        from airflow.models.dagrun import DagRun
        from airflow.utils.session import create_session
        from sqlalchemy import select

        with create_session() as session:
            found = session.scalars(
                select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id)
            ).one()
            tasks = sorted(ti.task_id for ti in found.task_instances)
            return {
                "state": str(found.state),
                "note": found.note,
                "by": found.triggering_user_name,
                "type": str(found.run_type),
                "event": Event.from_conf(found.conf),
                "tasks": tasks,
            }

    def ledger(self) -> list[Entry]:
        """The receiver's entries in Airflow's event log."""
        from airflow.models.log import Log
        from airflow.utils.session import create_session
        from sqlalchemy import select

        from delivery_chain.core.events.ledger import EVENT

        with create_session() as session:
            rows = session.scalars(select(Log).where(Log.event == EVENT).order_by(Log.id))
            return [Entry.model_validate_json(row.extra or "") for row in rows]

    def variables(self) -> dict[str, Any]:
        """All Variables, parsed."""
        from airflow.models.variable import Variable
        from airflow.utils.session import create_session
        from sqlalchemy import select

        with create_session() as session:
            return {one.key: json.loads(one.val) for one in session.scalars(select(Variable))}

    def saw(self, dag_id: str, refs: Mapping[str, str], looked: datetime | None = None) -> None:
        """Set a sensor's cursor."""
        from airflow.models.variable import Variable
        from airflow.utils.session import create_session

        said = {"looked": (looked or datetime.now(UTC)).isoformat(), "refs": dict(refs)}
        with create_session() as session:
            Variable.set(dag_id, json.dumps(said), session=session)

    def nothing(self) -> bool:
        """Whether webhooks have left nothing."""
        return (self.runs(), self.ledger(), self.variables()) == ([], [], {})
