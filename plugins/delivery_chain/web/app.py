"""One page per run: the image, its verdict and every finding. Who may read the Dag's XComs may read it.

The page of all pushes is in `delivery_chain.web.events`.
"""

from __future__ import annotations

import json
from typing import Any, TypeVar

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from airflow.models.xcom import XCOM_RETURN_KEY, XComModel
from airflow.utils.session import create_session
from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import HTMLResponse
from sqlalchemy import select

from delivery_chain.core.findings import ScanReport
from delivery_chain.core.gate import Verdict
from delivery_chain.core.plan import Plan
from delivery_chain.core.results import Quarantined, Record, RegionResult, Scanned, ScanResult, Subject
from delivery_chain.core.tags import quarantine_name
from delivery_chain.core.value import Value
from delivery_chain.errors import DeliveryChainError, NotFound
from delivery_chain.hooks.registry import TEST_TIMEOUT, OciRegistryHook
from delivery_chain.web.events import router as events
from delivery_chain.web.page import RunFacts, render

V = TypeVar("V", bound=Value)
LARGEST_REPORT = 16 * 1024 * 1024
"""Bytes of a report that the web server reads. A worker takes more."""
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
app = FastAPI(title="Delivery chain", docs_url=None, redoc_url=None, openapi_url=None)
app.include_router(events)


@app.get(
    "/{dag_id}/{run_id:path}",
    dependencies=[Depends(requires_access_dag(method="GET", access_entity=DagAccessEntity.XCOM))],
)
def run_page(dag_id: str, run_id: str) -> HTMLResponse:
    """The page of a run; 404 where there is no run with a plan."""
    left = _left(dag_id, run_id)
    try:
        facts = _facts(dag_id, run_id, left)
    except ValueError as error:
        raise HTTPException(404, f"{dag_id}/{run_id}: its XComs are not those of a chain") from error
    return HTMLResponse(render(facts), headers=HEADERS)


def _left(dag_id: str, run_id: str) -> dict[str, list[Any]]:
    """What the run's tasks returned, by task id, in the order of the map indexes."""
    wanted = (
        select(XComModel.task_id, XComModel.value)
        .where(XComModel.dag_id == dag_id, XComModel.run_id == run_id, XComModel.key == XCOM_RETURN_KEY)
        .order_by(XComModel.task_id, XComModel.map_index)
    )
    found: dict[str, list[Any]] = {}
    with create_session() as session:
        for task_id, value in session.execute(wanted):
            found.setdefault(task_id, []).append(json.loads(value) if isinstance(value, str) else value)
    return found


def _facts(dag_id: str, run_id: str, left: dict[str, list[Any]]) -> RunFacts:
    made = _first(left, "plan")
    if not isinstance(made, dict) or "plan" not in made:
        raise HTTPException(404, f"{dag_id}/{run_id}: no such run, or the task plan made no plan yet")
    plan = Plan.from_xcom(made["plan"])
    scanned = (Scanned.from_xcom(value) for value in left.get("scan", ()) if value)
    scans = tuple(result for one in scanned for result in one.results)
    reports, missing = _reports(plan, scans)
    return RunFacts(
        run_id=run_id,
        plan=plan,
        subject=_one(left, "assemble", Subject),
        verdict=_one(left, "gate", Verdict),
        quarantined=_one(left, "quarantine", Quarantined),
        record=_one(left, "report", Record),
        regions=tuple(RegionResult.from_xcom(item) for item in left.get("replicate", ()) if item),
        reports=reports,
        missing=missing,
    )


def _first(left: dict[str, list[Any]], task: str) -> Any:
    return next(iter(left.get(task, ())), None)


def _one(left: dict[str, list[Any]], task: str, model: type[V]) -> V | None:
    value = _first(left, task)
    return model.from_xcom(value) if value else None


def _reports(plan: Plan, scans: tuple[ScanResult, ...]) -> tuple[tuple[ScanReport, ...], str]:
    """The reports in the registry, and why one could not be read; empty if all could."""
    reports: list[ScanReport] = []
    try:
        # With the registry's default of a minute a dead one would hold the reader that long.
        with OciRegistryHook(plan.instance).client(timeout=TEST_TIMEOUT) as client:
            reports.extend(ScanReport.model_validate_json(_blob(client, plan, scan.report)) for scan in scans)
    except DeliveryChainError as error:
        return tuple(reports), str(error)
    except ValueError:
        return tuple(reports), "it is not a scan report of ours"
    return tuple(reports), ""


def _blob(client: Any, plan: Plan, digest: str) -> bytes:
    """A report, from beside the image or from beside its backup: `bytes`."""
    try:
        return bytes(client.get_blob(plan.name, digest, LARGEST_REPORT))
    except NotFound:
        backup = quarantine_name(plan.namespace, plan.repository)
        return bytes(client.get_blob(backup, digest, LARGEST_REPORT))
