"""Reads the ledger from Airflow's database: the webhooks' rows in the event log, and the XComs of the sensors' runs.

The ledger is the list of all changes reported. It has no table of its own: what `airflow db clean` deletes disappears
from it, too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.models.dag import DagModel
from airflow.models.dagrun import DagRun
from airflow.models.log import Log
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.state import DagRunState, TaskInstanceState
from pydantic import ValidationError
from sqlalchemy import func, or_, select

from delivery_chain.airflow_db.run_states import with_states
from delivery_chain.airflow_db.senders import senders_in
from delivery_chain.airflow_db.unplanned_runs import unplanned
from delivery_chain.airflow_db.variables import plain, stored
from delivery_chain.airflow_db.xcoms import decoded
from delivery_chain.core.events.gaps import Watch, changes, for_reader, settled
from delivery_chain.core.events.history import utc
from delivery_chain.core.events.ledger import EVENT, Entry, LedgerLine, Looked, Seen, join
from delivery_chain.core.events.watch_dags import IMAGES_PREFIX, SOURCE_PREFIX, watches
from delivery_chain.core.steps import WatchStep
from delivery_chain.core.times import EPOCH
from delivery_chain.core.xcom_keys import LEDGER
from delivery_chain.errors import ConfigurationError
from delivery_chain.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from sqlalchemy.orm import Session

MOST_ENTRIES = 5000
"""Maximum number of entries read for one request."""
MARGIN = timedelta(hours=1)
"""Extra period read before the wanted start: of two reports of one change, the first may be older than the start."""
ROWS_AT_ONCE = 200
"""Rows fetched from the database at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """The lines read, and how complete they are."""

    changes: list[LedgerLine]
    """Lines, newest first."""
    watches: Mapping[str, Watch]
    """The sensors, by Dag id."""
    since: datetime
    """Start of the complete part: later than requested if the ledger was truncated."""
    cut: bool = False
    skipped: int = 0
    """Number of records that could not be read, because another version wrote them."""


def read(session: Session, since: datetime, now: datetime, readable: Collection[str] | None = None) -> Ledger:
    """Read every change since a time.

    Args:
        session: Session of Airflow's database; read only.
        since: Start of the wanted period.
        now: The current time, to detect overdue changes.
        readable: Dags whose entries are included; None for all, including entries of no Dag.
    """
    reader = _Reader(session, _earlier(since))
    reader.read()
    found = [one for one in reader.seen if readable is None or one.place in readable]
    lines = join(found)
    # Omit runs of chains that the reader may not see.
    runs = {
        (one.chain, one.run_id)
        for line in lines
        for entry in line.entries
        for one in entry.outcomes
        if one.run_id and (readable is None or one.chain in readable)
    }
    sensors = _watches(session, {line.place for line in lines})
    kept = [
        change for change in changes(lines, sensors, now, unplanned(session, runs)) if change.last >= since
    ]
    if readable is not None:
        kept = [for_reader(change, readable) for change in kept]
        sensors = {dag_id: watch for dag_id, watch in sensors.items() if dag_id in readable}
    whole = max(since, reader.whole)
    return Ledger(
        changes=[settled(change) for change in with_states(session, kept, now)],
        watches=sensors,
        since=whole,
        cut=reader.whole > since,
        skipped=reader.skipped,
    )


class _Reader:
    """Reads both kinds of records, newest first, up to a limit."""

    def __init__(self, session: Session, since: datetime) -> None:
        self.session = session
        self.whole = since
        self.skipped = 0
        self.seen: list[Seen] = []

    def read(self) -> None:
        self.seen += self._of_webhooks()
        self.seen += self._of_sensors()
        # If one kind was truncated, older entries of the other kind would look like gaps: omit them.
        self.seen = sorted(
            (one for one in self.seen if one.entry.at >= self.whole),
            key=lambda one: one.entry.at,
            reverse=True,
        )
        if len(self.seen) > MOST_ENTRIES:
            self.seen = self.seen[:MOST_ENTRIES]
            self.whole = max(self.whole, self.seen[-1].entry.at)

    def _of_webhooks(self) -> list[Seen]:
        """Read the webhooks' entries."""
        wanted = (
            select(Log.dag_id, Log.dttm, Log.extra)
            .where(Log.event == EVENT, Log.dttm >= self.whole)
            .order_by(Log.dttm.desc(), Log.id.desc())
            .limit(MOST_ENTRIES + 1)
        )
        found: list[Seen] = []
        for dag_id, dttm, extra in self._rows(wanted):
            if len(found) >= MOST_ENTRIES:
                self.whole = max(self.whole, dttm)
                break
            found += self._entries(dag_id, Entry.model_validate_json, (extra or "",))
        return found

    def _of_sensors(self) -> list[Seen]:
        """Read the sensors' entries."""
        wanted = (
            select(XComModel.dag_id, XComModel.timestamp, XComModel.value)
            .where(
                XComModel.key == LEDGER,
                XComModel.task_id == WatchStep.MATCH,
                XComModel.timestamp >= self.whole,
                _of_a_sensor(XComModel.dag_id),
            )
            .order_by(XComModel.timestamp.desc())
            .limit(MOST_ENTRIES + 1)
        )
        found: list[Seen] = []
        for dag_id, written, value in self._rows(wanted):
            if len(found) >= MOST_ENTRIES:
                self.whole = max(self.whole, written)
                break
            items = decoded(value)
            found += self._entries(dag_id, Looked.from_xcom, items if isinstance(items, list) else (items,))
        return found

    def _rows(self, wanted: Any) -> Iterable[Any]:
        """Stream the rows, because a sensor's row may hold thousands of refs, and reading may stop early."""
        return self.session.execute(wanted.execution_options(yield_per=ROWS_AT_ONCE))

    def _entries(self, dag_id: str | None, read: Callable[[Any], Entry], items: Iterable[Any]) -> list[Seen]:
        found = []
        for item in items:
            try:
                entry = read(item)
            except ValidationError:
                self.skipped += 1
            else:
                found.append(Seen(dag_id or "", entry))
        return found


def _earlier(since: datetime) -> datetime:
    try:
        return since - MARGIN
    except OverflowError:
        return since


def _of_a_sensor(column: Any) -> Any:
    return or_(*(column.startswith(prefix, autoescape=True) for prefix in (SOURCE_PREFIX, IMAGES_PREFIX)))


def _watches(session: Session, places: Collection[str]) -> dict[str, Watch]:
    """The sensors of this Airflow, by Dag id. Only those in `places` include the refs that they have seen."""
    dags = list(session.scalars(select(DagModel).where(~DagModel.is_stale, _of_a_sensor(DagModel.dag_id))))
    newest = select(func.max(DagRun.id)).where(_of_a_sensor(DagRun.dag_id)).group_by(DagRun.dag_id)
    states: dict[str, str] = dict(
        session.execute(select(DagRun.dag_id, DagRun.state).where(DagRun.id.in_(newest))).all()
    )
    failing = set(
        session.scalars(
            select(TaskInstance.dag_id).where(
                _of_a_sensor(TaskInstance.dag_id),
                TaskInstance.state == TaskInstanceState.UP_FOR_RETRY,
            )
        )
    )
    cursors = {key: _cursor(plain(*row)) for key, row in stored(session, places).items()}
    senders = senders_in(session)
    polls = _polls()
    found = {}
    for dag in dags:
        looked, refs = cursors.get(dag.dag_id, (None, {}))
        speaking = [one for one in senders if any(watches(dag.dag_id, name) for name in one.speaks_for)]
        found[dag.dag_id] = Watch(
            title=dag.dag_display_name,
            senders=tuple(one.name for one in speaking),
            begun=min((one.begun or EPOCH for one in speaking), default=None),
            paused=bool(dag.is_paused),
            failed=states.get(dag.dag_id) == DagRunState.FAILED,
            failing=dag.dag_id in failing,
            poll=polls[dag.dag_id.startswith(IMAGES_PREFIX)],
            looked=looked,
            refs=refs,
        )
    return found


def _cursor(text: Any) -> tuple[datetime | None, dict[str, str]]:
    try:
        found = json.loads(text)
        refs = {ref: commit for ref, commit in found["refs"].items() if isinstance(commit, str)}
        return utc(found["looked"]), refs
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return None, {}


def _polls() -> tuple[timedelta, timedelta]:
    """Intervals between polls of a git source, and of a registry."""
    try:
        settings = Settings.load()
    except ConfigurationError:
        # An invalid option must not hide the ledger: use the default intervals.
        return timedelta(seconds=30), timedelta(seconds=60)
    return timedelta(seconds=settings.git_poll_seconds), timedelta(seconds=settings.image_poll_seconds)
