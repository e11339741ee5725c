"""The first page, `/delivery-chain/`: the chains that its reader may see, each with its newest run."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.core_api.security import GetUserDep  # noqa: TC002 - FastAPI reads it
from airflow.models.dag import DagModel, DagTag
from airflow.models.dagrun import DagRun, DagRunNote
from airflow.utils.session import create_session
from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from sqlalchemy import func, select

from delivery_chain.core.events.watch_dags import CHAIN_TAG
from delivery_chain.web.pages.home_page import Chain, Newest, render

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'self'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
router = APIRouter()


@router.get("/")
def home(user: GetUserDep) -> HTMLResponse:
    """The page; 401 for who is not logged in."""
    manager: Any = get_auth_manager()
    readable = set(manager.get_authorized_dag_ids(user=user, method="GET"))
    return HTMLResponse(render(_chains(readable)), headers=HEADERS)


def _chains(readable: set[str]) -> list[Chain]:
    tagged = select(DagTag.dag_id).where(DagTag.name == CHAIN_TAG)
    with create_session(scoped=False) as session:
        dags = session.scalars(
            select(DagModel).where(DagModel.dag_id.in_(tagged), ~DagModel.is_stale).order_by(DagModel.dag_id)
        ).all()
        seen = [dag for dag in dags if dag.dag_id in readable]
        newest = select(func.max(DagRun.id)).where(DagRun.dag_id.in_(tagged)).group_by(DagRun.dag_id)
        columns = (DagRun.dag_id, DagRun.run_id, DagRun.state, DagRun.run_after, DagRunNote.content)
        rows = session.execute(
            select(*columns)
            .outerjoin(DagRunNote, DagRunNote.dag_run_id == DagRun.id)
            .where(DagRun.id.in_(newest))
        )
        runs = {
            dag_id: Newest(run_id=run_id, state=str(state), at=at, note=note or "")
            for dag_id, run_id, state, at, note in rows
        }
        return [
            Chain(
                name=dag.dag_id,
                description=dag.description or "",
                paused=bool(dag.is_paused),
                newest=runs.get(dag.dag_id),
            )
            for dag in seen
        ]
