"""Reads the latest serialized version of each chain's Dag."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.models.dag import DagModel, DagTag
from airflow.models.dag_version import DagVersion
from airflow.models.serialized_dag import SerializedDagModel
from sqlalchemy import func, select

from delivery_chain.core.dags import CHAIN_TAG
from delivery_chain.core.spec.standing import REMOVED_TAG

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.orm import Session


def dag_hashes(session: Session) -> dict[str, str]:
    """Map the Dag id of each chain to the hash of its Dag, which changes whenever the Dag does."""
    return dict(session.execute(_latest(SerializedDagModel.dag_hash)).all())


def stored_dags(session: Session, dag_ids: Collection[str]) -> dict[str, Any]:
    """Map the Dag ids of these chains to their serialized Dags, as JSON."""
    wanted = _latest(SerializedDagModel.id).where(SerializedDagModel.dag_id.in_(dag_ids)).subquery()
    rows = session.scalars(select(SerializedDagModel).where(SerializedDagModel.id.in_(select(wanted.c.id))))
    return {row.dag_id: row.data for row in rows}


def any_chain_dag(session: Session) -> bool:
    """Whether Airflow has the Dag of any chain, even of a removed one."""
    return session.scalar(select(DagTag.dag_id).where(DagTag.name == CHAIN_TAG).limit(1)) is not None


def all_dag_ids(session: Session) -> set[str]:
    """Ids of all Dags of this Airflow."""
    return set(session.scalars(select(DagModel.dag_id)))


def _latest(*columns: Any) -> Any:
    """Select the Dag id and the given columns of the latest version of each chain's Dag, except removed chains."""
    removed = select(DagTag.dag_id).where(DagTag.name == REMOVED_TAG)
    newest = (
        select(DagVersion.dag_id, func.max(DagVersion.version_number).label("number"))
        .join(DagTag, DagTag.dag_id == DagVersion.dag_id)
        .where(DagTag.name == CHAIN_TAG, DagVersion.dag_id.not_in(removed))
        .group_by(DagVersion.dag_id)
        .subquery()
    )
    return (
        select(SerializedDagModel.dag_id, *columns)
        .join(DagVersion, SerializedDagModel.dag_version_id == DagVersion.id)
        .join(newest, (newest.c.dag_id == DagVersion.dag_id) & (newest.c.number == DagVersion.version_number))
        .join(DagModel, DagModel.dag_id == SerializedDagModel.dag_id)
        .where(~DagModel.is_stale)
    )
