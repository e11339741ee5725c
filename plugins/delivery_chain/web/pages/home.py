"""The first page, `/delivery-chain/`: the chains that its reader may see, each with its newest run."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from delivery_chain.airflow_db.access import User, readable_dags
from delivery_chain.airflow_db.newest_runs import newest_runs
from delivery_chain.web.pages.home_page import render

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'self'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
router = APIRouter()


@router.get("/")
def home(user: User) -> HTMLResponse:
    """The page; 401 for who is not logged in."""
    return HTMLResponse(render(newest_runs(readable_dags(user))), headers=HEADERS)
