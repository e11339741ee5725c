"""Reads the current states of the runs of pushes from Airflow's database."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from airflow.models.dagrun import DagRun, DagRunNote
from sqlalchemy import select

from delivery_chain.core.events.ledger import GONE, SENSOR, SOON, START_PATIENCE, Standing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from delivery_chain.core.events.ledger import LedgerLine

IDS_AT_ONCE = 500
LONGEST_NOTE = 300
"""Maximum length of a run's note in a line of the ledger, in characters."""


def with_states(session: Session, changes: Sequence[LedgerLine], now: datetime) -> list[LedgerLine]:
    """Add to each line the current state and note of its runs."""
    ids: dict[str, set[str]] = defaultdict(set)
    for change in changes:
        for one in change.outcomes:
            if one.run_id:
                ids[one.chain].add(one.run_id)
    found = {
        (run.chain, run.run_id): run
        for chain, wanted in ids.items()
        for run in _of_chain(session, chain, sorted(wanted))
    }

    def stand(change: LedgerLine) -> LedgerLine:
        keys = dict.fromkeys((one.chain, one.run_id) for one in change.outcomes if one.run_id)
        none = SOON if change.by == SENSOR and now - change.at < START_PATIENCE else GONE
        runs = (found.get(key) or Standing(chain=key[0], run_id=key[1], state=none) for key in keys)
        return change.model_copy(update={"runs": tuple(runs)})

    return [stand(change) for change in changes]


def _of_chain(session: Session, chain: str, ids: Sequence[str]) -> Iterator[Standing]:
    for first in range(0, len(ids), IDS_AT_ONCE):
        wanted = (
            select(DagRun.run_id, DagRun.state, DagRunNote.content)
            .outerjoin(DagRunNote, DagRunNote.dag_run_id == DagRun.id)
            .where(DagRun.dag_id == chain, DagRun.run_id.in_(ids[first : first + IDS_AT_ONCE]))
        )
        for run_id, state, note in session.execute(wanted):
            yield Standing(chain=chain, run_id=run_id, state=str(state), note=(note or "")[:LONGEST_NOTE])
