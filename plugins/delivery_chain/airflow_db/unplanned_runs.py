"""Finds runs of pushes without a plan, in Airflow's database."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.state import TaskInstanceState
from sqlalchemy import or_, select

from delivery_chain.airflow_db.signing_secret import stored_secret
from delivery_chain.airflow_db.xcoms import decoded
from delivery_chain.core.events.unplanned import Unplanned
from delivery_chain.core.seal import Place, is_sealed
from delivery_chain.core.steps import Step
from delivery_chain.core.xcom_keys import REASON

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.orm import Session

IDS_AT_ONCE = 500
DONE = (TaskInstanceState.SUCCESS, TaskInstanceState.SKIPPED)
"""States of a plan that is done. A skipped plan counts: it means that no work is needed."""


def unplanned(session: Session, runs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Unplanned]:
    """Those of the given runs whose task `plan` has not succeeded, by chain and run id; deleted runs are omitted."""
    by_chain: dict[str, list[str]] = defaultdict(list)
    for chain, run_id in sorted(set(runs)):
        by_chain[chain].append(run_id)
    found = [
        one
        for chain, ids in by_chain.items()
        for first in range(0, len(ids), IDS_AT_ONCE)
        for one in _of_chain(session, chain, ids[first : first + IDS_AT_ONCE])
    ]
    return {(one.chain, one.run_id): one for one in found}


def _of_chain(session: Session, chain: str, ids: list[str]) -> list[Unplanned]:
    one = TaskInstance
    wanted = (
        select(one.run_id, one.state, one.try_number, one.end_date, DagRun.queued_at, DagRun.run_after)
        .join(DagRun, (DagRun.dag_id == one.dag_id) & (DagRun.run_id == one.run_id))
        .where(
            one.dag_id == chain,
            one.task_id == Step.PLAN,
            one.run_id.in_(ids),
            or_(one.state.is_(None), one.state.not_in(DONE)),
        )
    )
    rows = session.execute(wanted).all()
    errors = _errors(session, chain, [row.run_id for row in rows if row.state == TaskInstanceState.FAILED])
    return [
        Unplanned(
            chain=chain,
            run_id=row.run_id,
            state=str(row.state or ""),
            tries=row.try_number,
            since=row.end_date or row.queued_at or row.run_after,
            error=errors.get(row.run_id, ""),
        )
        for row in rows
    ]


def _errors(session: Session, chain: str, ids: list[str]) -> dict[str, str]:
    """Name of the error of each plan by run id, if the name is proven to come from the plan."""
    if not ids:
        return {}
    wanted = select(XComModel.run_id, XComModel.value).where(
        XComModel.dag_id == chain,
        XComModel.task_id == Step.PLAN,
        XComModel.key == REASON,
        XComModel.run_id.in_(ids),
    )
    secret = stored_secret(session)
    found = {}
    for run_id, text in session.execute(wanted):
        said = decoded(text)
        if secret and is_sealed(said, Place(chain, run_id, Step.PLAN, key=REASON), secret):
            found[run_id] = str(said.get("error", ""))
    return found
