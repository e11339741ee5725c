"""The application with all pages, and the pages of runs, which are for users who may read the Dag's XComs.

A run's page shows its image, verdict and every finding. The other pages are in modules of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse

from delivery_chain.airflow_db.access import READS_XCOMS
from delivery_chain.airflow_db.outcomes import facts_of
from delivery_chain.airflow_db.session import transaction
from delivery_chain.airflow_db.xcoms import Left, left_in
from delivery_chain.core.gate.findings import ScanReport
from delivery_chain.core.names.tags import quarantine_name
from delivery_chain.core.results import Scanned
from delivery_chain.core.run.state import outcome
from delivery_chain.core.spec.in_force import version
from delivery_chain.core.steps import Step
from delivery_chain.errors import DeliveryChainError, NotFound
from delivery_chain.hooks.registry import TEST_TIMEOUT, OciRegistryHook
from delivery_chain.web.dry_run import router as asking
from delivery_chain.web.pages.assets import router as assets
from delivery_chain.web.pages.events import router as events
from delivery_chain.web.pages.home import router as home
from delivery_chain.web.pages.login import to_login
from delivery_chain.web.pages.rendering import HEADERS, not_found, page, up
from delivery_chain.web.pages.run_page import RunFacts, render

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from delivery_chain.core.plan import Plan
    from delivery_chain.core.results import ScanResult
    from delivery_chain.core.run.facts import Facts
    from delivery_chain.oci.client import RegistryClient

LARGEST_REPORT = 16 * 1024 * 1024
"""Maximum size in bytes of a report that the web server reads. Workers read larger ones."""
app = FastAPI(title="Delivery chain", docs_url=None, redoc_url=None, openapi_url=None)
for refused in (401, 403):
    app.exception_handler(refused)(to_login)
app.include_router(assets)
app.include_router(home)
app.include_router(asking)
app.include_router(events)


@app.get("/runs/{dag_id}/{run_id:path}/outcome", dependencies=[READS_XCOMS])
def run_outcome(dag_id: str, run_id: str) -> JSONResponse:
    """The outcome or progress of a run as JSON: the fields of `Outcome`, and Airflow's `state` of the run."""
    with transaction() as session:
        known = _known(session, dag_id, run_id, left_in(session, dag_id, run_id))
    body = outcome(known).model_dump(mode="json") | {"state": known.state}
    return JSONResponse(body, headers=HEADERS)


@app.get("/{dag_id}/{run_id:path}", dependencies=[READS_XCOMS])
def run_page(request: Request, dag_id: str, run_id: str) -> HTMLResponse:
    """The page of a run; 404 with links to the other pages if no chain has such a run."""
    try:
        with transaction() as session:
            left = left_in(session, dag_id, run_id)
            known = _known(session, dag_id, run_id, left)
    except HTTPException as error:
        return page(not_found(f"{error.detail}.", up=up(request)), error.status_code)
    return page(render(_facts(dag_id, run_id, left, known), up=up(request)))


def _known(session: Session, dag_id: str, run_id: str, left: Left) -> Facts:
    """Collect the facts of a run; 404 if the run does not exist, or is not a run of a chain."""
    try:
        known = facts_of(session, dag_id, run_id, left=left)
    except ValueError as error:
        raise HTTPException(404, f"{dag_id}/{run_id}: its XComs are not those of a chain") from error
    # Only chains have both of these tasks, and users may have deleted one of them.
    if known is None or {Step.ASSEMBLE, Step.REPORT} <= set(known.deleted):
        raise HTTPException(404, f"{dag_id}/{run_id}: no such run of a chain")
    return known


def _facts(dag_id: str, run_id: str, left: Left, known: Facts) -> RunFacts:
    plan = known.planned.plan if known.planned else None
    scans = tuple(result for scanned in left.all(Step.SCAN, Scanned) for result in scanned.results)
    reports, missing = _reports(plan, scans) if plan else ((), "")
    return RunFacts(
        chain=dag_id,
        run_id=run_id,
        outcome=outcome(known),
        altered=known.altered,
        plan=plan,
        version=version(known.planned.number, known.planned.fingerprint) if known.planned else "",
        subject=known.subject,
        verdict=known.verdict,
        quarantined=known.quarantined,
        regions=known.regions,
        reports=reports,
        missing=missing,
    )


def _reports(plan: Plan, scans: tuple[ScanResult, ...]) -> tuple[tuple[ScanReport, ...], str]:
    """Read the reports from the registry. Also return why one could not be read, or an empty string."""
    reports: list[ScanReport] = []
    try:
        # With the default timeout of a minute, a dead registry would keep the reader of the page waiting.
        with OciRegistryHook(plan.instance).client(timeout=TEST_TIMEOUT) as client:
            reports.extend(ScanReport.model_validate_json(_blob(client, plan, scan.report)) for scan in scans)
    except DeliveryChainError as error:
        return tuple(reports), str(error)
    except ValueError:
        return tuple(reports), "it is not a scan report of this package"
    return tuple(reports), ""


def _blob(client: RegistryClient, plan: Plan, digest: str) -> bytes:
    """Read a report from the image's repository, or else from the backup's repository."""
    try:
        return bytes(client.get_blob(plan.name, digest, LARGEST_REPORT))
    except NotFound:
        backup = quarantine_name(plan.namespace, plan.repository)
        return bytes(client.get_blob(backup, digest, LARGEST_REPORT))
