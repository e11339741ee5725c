"""Serves the page of push events: every change of a ref that was seen, for users who may read Airflow's audit log.

The page shows only what belongs to Dags that the user may read: changes of a source require access to the Dag that
watches it, and runs of a chain require access to the chain's Dag. Pushes that no chain takes belong to no Dag, and
require access to every Dag. (Airflow's own audit log shows such rows to all its readers.)
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import HTMLResponse  # noqa: TC002 - FastAPI reads it

from delivery_chain.airflow_db.access import reads_audit_log
from delivery_chain.airflow_db.chain_dags import all_dag_ids
from delivery_chain.airflow_db.push_events import Ledger, read
from delivery_chain.airflow_db.session import transaction
from delivery_chain.core.events.gaps import Wanted
from delivery_chain.core.events.ledger import parse_since
from delivery_chain.errors import UsageError
from delivery_chain.web.pages.events_page import Asked, Shown, render
from delivery_chain.web.pages.rendering import page

DEFAULT = "1d"
LONGEST = 1000
"""Maximum number of characters of a form field, which is the maximum length of a ref."""
Text = Annotated[str, Query(max_length=LONGEST)]
router = APIRouter()


@router.get("/events")
def events_page(
    readable: Annotated[set[str], Depends(reads_audit_log)],
    since: Text = DEFAULT,
    source: Text = "",
    chain: Text = "",
    ref: Text = "",
    gaps: bool = False,  # noqa: FBT001, FBT002 - a field of the form
    own: bool = False,  # noqa: FBT001, FBT002
) -> HTMLResponse:
    """The page of push events; for an invalid filter, the same page with the error and status 400."""
    asked = Asked(
        since=since.strip() or DEFAULT,
        source=source.strip(),
        chain=chain.strip(),
        ref=ref.strip(),
        gaps=gaps,
        own=own,
    )
    now = datetime.now(UTC)
    try:
        start = parse_since(asked.since, now)
    except UsageError as error:
        return page(render(asked, Shown(watches={}, notes=(str(error),))), 400)
    with transaction() as session:
        everything = all_dag_ids(session) <= readable
        ledger = read(session, start, now, None if everything else readable)
    return page(render(asked, _shown(ledger, asked)))


def _shown(ledger: Ledger, asked: Asked) -> Shown:
    wanted = Wanted(source=asked.source, chain=asked.chain, ref=asked.ref, gaps=asked.gaps, own=asked.own)
    changes = [change for change in ledger.changes if wanted.takes(change, ledger.watches.get(change.place))]
    chains = {outcome.chain for change in ledger.changes for outcome in change.outcomes}
    notes = [f"{one.title} is not being watched: {one.idle}" for one in ledger.watches.values() if one.idle]
    if ledger.cut:
        notes.append(
            f"Truncated: the page has all records since {ledger.since:%Y-%m-%d %H:%M:%S} UTC, but no older ones."
        )
    if ledger.skipped:
        notes.append(
            f"{ledger.skipped} records were written by another version of this package and are omitted."
        )
    return Shown(changes=changes, watches=ledger.watches, chains=sorted(chains), notes=notes)
