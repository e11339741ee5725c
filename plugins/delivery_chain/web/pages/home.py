"""Serves the home page, `/delivery-chain/`: the chains that the user may see, each with its newest run."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import HTMLResponse  # noqa: TC002 - FastAPI reads it

from delivery_chain.airflow_db.access import User, readable_dags
from delivery_chain.airflow_db.newest_runs import newest_runs
from delivery_chain.web.pages.rendering import page, render

router = APIRouter()


@router.get("/")
def home(user: User) -> HTMLResponse:
    """The page; 401 without a login."""
    return page(render("home.html", chains=newest_runs(readable_dags(user)), up=""))
