"""Makes a chain's run ready when it begins or goes on, and writes how it ended into its note.

Runs in the scheduler; the ends of runs that people mark by hand also in the API server.

The run's own database session is used, never a second one: on SQLite a second writer would wait for the
scheduler's transaction, which waits for us. Nothing that fails here may disturb the scheduler.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.listeners import hookimpl

from delivery_chain.core.steps import Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.models.dagrun import DagRun
    from sqlalchemy.engine import Connection
    from sqlalchemy.orm import Session

    from delivery_chain.core.spec.model import ChainSpec

TAG = "delivery-chain"
"""Dags with this tag are chains."""
BY_SCHEDULER = frozenset({"success", "task_failure"})
"""What Airflow says of a run that ended by its tasks. Source: airflow.models.dagrun, DagRun.update_state."""
MOST_TRIES = 10
"""How often a note is tried that can't be written, at the next runs that begin or end."""
MOST_MISSED = 100
log = logging.getLogger(__name__)
_missed: dict[tuple[str, str, int], int] = {}
"""Runs without their note, as Dag id, run id and the run's number in the database, and the tries that are left."""


@hookimpl
def on_dag_run_running(dag_run: DagRun, msg: str) -> None:
    """Make a secret for the run's steps, name its mapped tasks, and let what tells of its end do so anew.

    Never raises. Airflow calls this when a run begins, and when one that had ended goes on.
    """
    del msg
    for do in (_make_secret, _complete, _name, _go_on, _look_again):
        try:
            _do(dag_run, do)
        except Exception:
            log.warning("Run %s was not made ready (%s)", _key(dag_run)[1], do.__name__, exc_info=True)
    _note_missed(dag_run)


@hookimpl
def on_dag_run_success(dag_run: DagRun, msg: str) -> None:
    """Note how the run ended."""
    _end(dag_run, msg)


@hookimpl
def on_dag_run_failed(dag_run: DagRun, msg: str) -> None:
    """Note how the run ended, also of a run that was blocked or cancelled."""
    _end(dag_run, msg)


def _end(dag_run: DagRun, msg: str) -> None:
    """Note how the run ended; or let it go on, where its end was told too soon, or it was to go on."""
    note_summary(dag_run)
    try:
        from airflow.utils.state import DagRunState  # noqa: PLC0415

        if msg in BY_SCHEDULER and _in_its_transaction(dag_run, _is_to_go_on):
            # As when a run that had ended is cleared: it begins anew, and `report` with it.
            dag_run.set_state(DagRunState.QUEUED)
    except Exception:
        log.warning("The state of run %s may be out of date", _key(dag_run)[1], exc_info=True)


def _is_to_go_on(connection: Connection, dag_run: DagRun) -> bool:
    """Whether something of the run was cleared while it ended.

    That is while `report` told of its end, whose state Airflow keeps then, or before, when the steps after it had been
    skipped or failed already.
    """
    from delivery_chain.airflow_db.outcomes import facts_of  # noqa: PLC0415
    from delivery_chain.airflow_db.reopening import note_reopening  # noqa: PLC0415
    from delivery_chain.airflow_db.run_notes import AUTHOR  # noqa: PLC0415
    from delivery_chain.core.run.resume import is_stuck, stalled  # noqa: PLC0415

    facts = facts_of(connection, dag_run.dag_id, dag_run.run_id)
    if facts is None or not is_stuck(facts):
        return facts is not None and facts.reported_too_soon
    note_reopening(connection, dag_run.dag_id, dag_run.run_id, AUTHOR, stalled(facts))
    return True


def note_summary(dag_run: DagRun) -> None:
    """Make the run's outcome its note, unless a person wrote one, and write those that were missed. Never raises."""
    key = _key(dag_run)
    _missed.pop(key, None)
    try:
        _do(dag_run, _note)
    except Exception:
        log.warning("The note of run %s was not written", key[1], exc_info=True)
        if len(_missed) < MOST_MISSED and key[2]:
            _missed[key] = MOST_TRIES
    else:
        _note_missed(dag_run)


def _note_missed(dag_run: DagRun) -> None:
    """Write the notes that were missed, in the transaction of whatever run begins or ends now. Never raises."""
    for key, tries in list(_missed.items()):
        do = partial(_note_later, key=key)
        try:
            _in_its_transaction(dag_run, do, of_any_dag=True)
        except Exception:
            log.warning(
                "The note of run %s was not written, tries left: %d", key[1], tries - 1, exc_info=True
            )
            _missed[key] = tries - 1
            if tries <= 1:
                _missed.pop(key, None)


def _note_later(connection: Connection, dag_run: DagRun, key: tuple[str, str, int]) -> bool:
    """Write a note that was missed, once the database has the run's end; a run that goes on gets one when it ends."""
    del dag_run
    if _note_of(connection, *key):
        _missed.pop(key, None)
    return False


def _key(dag_run: DagRun) -> tuple[str, str, int]:
    """Dag id, run id, and the run's number in the database."""
    # Not by attribute: that may ask the database, which is what just failed.
    known = getattr(dag_run, "__dict__", {})
    return known.get("dag_id", "?"), known.get("run_id", "?"), known.get("id", 0)


def _do(dag_run: DagRun, do: Callable[[Connection, DagRun], bool]) -> None:
    if session := _in_its_transaction(dag_run, do):
        session.expire(dag_run, ["dag_run_note"])


def _in_its_transaction(
    dag_run: DagRun, do: Callable[[Connection, DagRun], bool], *, of_any_dag: bool = False
) -> Session | None:
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
        changed = (of_any_dag or _is_chain(connection, dag_run)) and do(connection, dag_run)
    return session if changed else None


def _make_secret(connection: Connection, dag_run: DagRun) -> bool:
    del dag_run
    from delivery_chain.airflow_db.signing_secret import make_secret  # noqa: PLC0415

    make_secret(connection)
    return False


def _complete(connection: Connection, dag_run: DagRun) -> bool:
    from delivery_chain.airflow_db.deleted_tasks import make_anew  # noqa: PLC0415

    made = make_anew(connection, dag_run)
    if made:
        log.info(
            "Run %s lacked tasks, which were deleted: %s are there again", dag_run.run_id, ", ".join(made)
        )
    return False


def _name(connection: Connection, dag_run: DagRun) -> bool:
    from delivery_chain.airflow_db.outcomes import name_instances  # noqa: PLC0415

    spec = _spec(dag_run)
    if spec:
        name_instances(connection, dag_run.dag_id, dag_run.run_id, spec)
    return False


def _spec(dag_run: DagRun) -> ChainSpec | None:
    """The spec that the run's Dag was made from, as Airflow stored it with the Dag."""
    from delivery_chain.core.spec.model import ChainSpec  # noqa: PLC0415

    dag: Any = getattr(dag_run, "dag", None)
    text = dag.get_task(Step.PLAN).doc_json if dag is not None and dag.has_task(Step.PLAN) else None
    return ChainSpec.model_validate_json(text) if text else None


def _go_on(connection: Connection, dag_run: DagRun) -> bool:
    """Of a run that had ended: let it tell its end anew, whatever was cleared, and say so where its old end stands."""
    from delivery_chain.airflow_db.outcomes import marks_in  # noqa: PLC0415
    from delivery_chain.airflow_db.reopening import reset_closing  # noqa: PLC0415
    from delivery_chain.airflow_db.run_notes import Noted, is_noted, rewrite  # noqa: PLC0415
    from delivery_chain.core.run.resume import resumed  # noqa: PLC0415

    reset_closing(connection, dag_run.dag_id, dag_run.run_id, _retries(dag_run))
    run = Noted(dag_run.dag_id, dag_run.run_id, dag_run.id)
    if not is_noted(connection, run):
        return False
    return rewrite(connection, run, resumed(marks_in(connection, dag_run.dag_id, dag_run.run_id)))


def _look_again(connection: Connection, dag_run: DagRun) -> bool:
    """Let the steps be looked at again that follow what is done again: Airflow is done with those that did not run."""
    from delivery_chain.airflow_db.outcomes import facts_of  # noqa: PLC0415
    from delivery_chain.airflow_db.reopening import reset  # noqa: PLC0415
    from delivery_chain.core.run.resume import to_reset  # noqa: PLC0415

    facts = facts_of(connection, dag_run.dag_id, dag_run.run_id)
    if facts is not None:
        reset(connection, dag_run.dag_id, dag_run.run_id, to_reset(facts), _retries(dag_run))
    return False


def _retries(dag_run: DagRun) -> dict[str, int]:
    """The retries of each task of the run's Dag."""
    dag: Any = getattr(dag_run, "dag", None)
    return {task.task_id: task.retries or 0 for task in dag.tasks} if dag is not None else {}


def _note(connection: Connection, dag_run: DagRun) -> bool:
    return _note_of(connection, dag_run.dag_id, dag_run.run_id, dag_run.id, state=str(dag_run.state))


def _note_of(connection: Connection, dag_id: str, run_id: str, number: int, *, state: str = "") -> bool:
    """Note a run's outcome; gives whether there is nothing more to note.

    From what is proven of it: who marks or edits something edits no note with it.
    """
    from delivery_chain.airflow_db.outcomes import facts_of  # noqa: PLC0415
    from delivery_chain.airflow_db.run_notes import Noted, write  # noqa: PLC0415
    from delivery_chain.core.run.state import OPEN, outcome  # noqa: PLC0415

    facts = facts_of(connection, dag_id, run_id, state=state)
    if facts is None:
        return True
    found = outcome(facts)
    if found.end in OPEN:
        return False
    write(connection, Noted(dag_id, run_id, number), found.sentence)
    return True


def _is_chain(connection: Connection, dag_run: DagRun) -> bool:
    from airflow.models.dag import DagTag  # noqa: PLC0415
    from sqlalchemy import select  # noqa: PLC0415

    dag: Any = getattr(dag_run, "dag", None)
    if dag is not None:
        return TAG in dag.tags
    wanted = select(DagTag.name).where(DagTag.dag_id == dag_run.dag_id, DagTag.name == TAG)
    return connection.execute(wanted).first() is not None
