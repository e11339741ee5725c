"""Makes a chain's run ready when it begins or goes on, and writes how it ended into its note.

Runs in the scheduler; the ends of runs that people mark by hand also in the API server.

The run's own database session is used, never a second one: on SQLite a second writer would wait for the
scheduler's transaction, which waits for us. Nothing that fails here may disturb the scheduler.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from airflow.listeners import hookimpl

from delivery_chain.core.steps import REPORT

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.models.dagrun import DagRun
    from sqlalchemy.engine import Connection
    from sqlalchemy.orm import Session

    from delivery_chain.core.spec import ChainSpec

TAG = "delivery-chain"
"""Dags with this tag are chains."""
BY_SCHEDULER = frozenset({"success", "task_failure"})
"""What Airflow says of a run that ended by its tasks. Source: airflow.models.dagrun, DagRun.update_state."""
log = logging.getLogger(__name__)


@hookimpl
def on_dag_run_running(dag_run: DagRun, msg: str) -> None:
    """Make a secret for the run's steps, name its mapped tasks, and let what tells of its end do so anew.

    Never raises. Airflow calls this when a run begins, and when one that had ended goes on.
    """
    del msg
    for do in (_make_secret, _complete, _name, _go_on):
        try:
            _do(dag_run, do)
        except Exception:
            log.warning("Run %s was not made ready (%s)", _run_id(dag_run), do.__name__, exc_info=True)


@hookimpl
def on_dag_run_success(dag_run: DagRun, msg: str) -> None:
    """Note how the run ended."""
    _end(dag_run, msg)


@hookimpl
def on_dag_run_failed(dag_run: DagRun, msg: str) -> None:
    """Note how the run ended, also of a run that was blocked or cancelled."""
    _end(dag_run, msg)


def _end(dag_run: DagRun, msg: str) -> None:
    """Note how the run ended; or let it go on, where its end was told too soon."""
    note_summary(dag_run)
    try:
        from airflow.utils.state import DagRunState  # noqa: PLC0415

        if msg in BY_SCHEDULER and _in_its_transaction(dag_run, _is_too_soon):
            # As when a run that had ended is cleared: it begins anew, and `report` with it.
            dag_run.set_state(DagRunState.QUEUED)
    except Exception:
        log.warning("The state of run %s may be out of date", _run_id(dag_run), exc_info=True)


def _is_too_soon(connection: Connection, dag_run: DagRun) -> bool:
    """Whether something of the run was cleared while `report` told of its end: Airflow keeps that one's state then."""
    from delivery_chain.ledger.outcomes import facts_of  # noqa: PLC0415

    facts = facts_of(connection, dag_run.dag_id, dag_run.run_id)
    return facts is not None and facts.told_too_soon


def note_summary(dag_run: DagRun) -> None:
    """Make the run's outcome its note, unless a person wrote one. Never raises."""
    try:
        _do(dag_run, _note)
    except Exception:
        log.warning("The note of run %s was not written", _run_id(dag_run), exc_info=True)


def _run_id(dag_run: DagRun) -> str:
    # Not by attribute: that may ask the database, which is what just failed.
    return str(getattr(dag_run, "__dict__", {}).get("run_id", "?"))


def _do(dag_run: DagRun, do: Callable[[Connection, DagRun], bool]) -> None:
    if session := _in_its_transaction(dag_run, do):
        session.expire(dag_run, ["dag_run_note"])


def _in_its_transaction(dag_run: DagRun, do: Callable[[Connection, DagRun], bool]) -> Session | None:
    """Do something on the connection of a chain's run; gives its session where that changed something of the run."""
    from sqlalchemy.orm import object_session  # noqa: PLC0415 - not in every process that loads plugins

    session = object_session(dag_run)
    if session is None:
        return None
    if session.new or session.dirty:
        # A note that is being written together with the run's state.
        session.flush()
    # Statements on the connection flush nothing and trip no guard of the session; they join its transaction.
    connection = session.connection()
    # A failed statement spoils a transaction of Postgres unless it is inside a savepoint. SQLite goes on, and
    # its driver may take the end of an outermost savepoint for a commit.
    savepoint = nullcontext() if connection.dialect.name == "sqlite" else connection.begin_nested()
    with savepoint:
        changed = _is_chain(connection, dag_run) and do(connection, dag_run)
    return session if changed else None


def _make_secret(connection: Connection, dag_run: DagRun) -> bool:
    del dag_run
    from delivery_chain.ledger.signing import make_secret  # noqa: PLC0415

    make_secret(connection)
    return False


def _complete(connection: Connection, dag_run: DagRun) -> bool:
    from delivery_chain.ledger.deleted import make_anew  # noqa: PLC0415

    made = make_anew(connection, dag_run)
    if made:
        log.info(
            "Run %s lacked tasks, which were deleted: %s are there again", dag_run.run_id, ", ".join(made)
        )
    return False


def _name(connection: Connection, dag_run: DagRun) -> bool:
    from delivery_chain.ledger.outcomes import name_instances  # noqa: PLC0415

    spec = _spec(dag_run)
    if spec:
        name_instances(connection, dag_run.dag_id, dag_run.run_id, spec)
    return False


def _spec(dag_run: DagRun) -> ChainSpec | None:
    """The spec that the run's Dag was made from, as Airflow stored it with the Dag."""
    from delivery_chain.core.spec import ChainSpec  # noqa: PLC0415

    dag: Any = getattr(dag_run, "dag", None)
    text = dag.get_task("plan").doc_json if dag is not None and dag.has_task("plan") else None
    return ChainSpec.model_validate_json(text) if text else None


def _go_on(connection: Connection, dag_run: DagRun) -> bool:
    """Of a run that had ended: let it tell its end anew, whatever was cleared, and say so where its old end stands."""
    from delivery_chain.core.outcome import going_on  # noqa: PLC0415
    from delivery_chain.ledger.notes import is_noted, rewrite  # noqa: PLC0415
    from delivery_chain.ledger.outcomes import marks_in, reset_closing  # noqa: PLC0415

    dag: Any = getattr(dag_run, "dag", None)
    known = dag is not None and dag.has_task(REPORT)
    retries = dag.get_task(REPORT).retries if known else 0
    reset_closing(connection, dag_run.dag_id, dag_run.run_id, retries)
    if not is_noted(connection, dag_run):
        return False
    return rewrite(connection, dag_run, going_on(marks_in(connection, dag_run.dag_id, dag_run.run_id)))


def _note(connection: Connection, dag_run: DagRun) -> bool:
    """Note the run's outcome, from what is proven of it: who marks or edits something edits no note with it."""
    from delivery_chain.core.outcome import OPEN, outcome  # noqa: PLC0415
    from delivery_chain.ledger.notes import write  # noqa: PLC0415
    from delivery_chain.ledger.outcomes import facts_of  # noqa: PLC0415

    facts = facts_of(connection, dag_run.dag_id, dag_run.run_id, state=str(dag_run.state))
    if facts is None:
        return False
    found = outcome(facts)
    if found.end not in OPEN:
        write(connection, dag_run, found.sentence)
    return True


def _is_chain(connection: Connection, dag_run: DagRun) -> bool:
    from airflow.models.dag import DagTag  # noqa: PLC0415
    from sqlalchemy import select  # noqa: PLC0415

    dag: Any = getattr(dag_run, "dag", None)
    if dag is not None:
        return TAG in dag.tags
    wanted = select(DagTag.name).where(DagTag.dag_id == dag_run.dag_id, DagTag.name == TAG)
    return connection.execute(wanted).first() is not None
