"""Serves the pages' stylesheet and script."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import FileResponse

from delivery_chain.airflow_db.access import LOGGED_IN
from delivery_chain.web.pages.rendering import FOLDER

HEADERS = {"Cache-Control": "private, max-age=300", "X-Content-Type-Options": "nosniff"}
router = APIRouter(dependencies=[LOGGED_IN])


@router.get("/style.css")
def style() -> FileResponse:
    """The stylesheet."""
    return FileResponse(FOLDER / "static" / "style.css", media_type="text/css", headers=HEADERS)


@router.get("/events.js")
def script() -> FileResponse:
    """The script of the page of push events."""
    return FileResponse(FOLDER / "static" / "events.js", media_type="text/javascript", headers=HEADERS)
