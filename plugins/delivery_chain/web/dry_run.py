"""Checks whether a chain would accept an event: a dry run before a run is triggered."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import JSONResponse

from delivery_chain.airflow_db.access import READS_RUNS
from delivery_chain.core.events.event import Event
from delivery_chain.core.plan import select
from delivery_chain.errors import EventRefused, UsageError
from delivery_chain.web.index import Index

if TYPE_CHECKING:
    from delivery_chain.core.spec.model import ChainSpec

LONGEST = 8000
"""Maximum number of characters of an event as JSON; the longest valid event has 3,000."""
router = APIRouter()
index = Index()


@router.get(
    "/chains/{dag_id}/takes",
    dependencies=[READS_RUNS],
)
def takes(dag_id: str, conf: Annotated[str, Query(max_length=LONGEST)]) -> JSONResponse:
    """Return `{"refused": reason}`, with an empty reason if the chain accepts the event; 404 for an unknown chain."""
    spec = index.chains().specs.get(dag_id)
    if spec is None:
        raise HTTPException(404, f"no chain {dag_id}")
    return JSONResponse({"refused": _refusal(spec, conf)}, headers={"Cache-Control": "no-store"})


def _refusal(spec: ChainSpec, conf: str) -> str:
    try:
        said = json.loads(conf)
        select(spec, Event.from_conf(said if isinstance(said, dict) else {}))
    except (EventRefused, UsageError) as refused:
        return str(refused)
    except (ValueError, RecursionError):
        return "expected an event as JSON"
    return ""
