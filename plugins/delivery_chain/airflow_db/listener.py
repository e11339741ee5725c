"""Prepares a chain's run when it starts or resumes, and writes its outcome into its note.

Runs in the scheduler, and in the API server when users mark a run by hand.

It uses the run's own database session, never a second one: on SQLite, a second writer would wait for the scheduler's
transaction, which waits for this listener. No failure here may disturb the scheduler.
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
"""Airflow's messages for a run that its tasks finished. Source: airflow.models.dagrun, DagRun.update_state."""
MOST_TRIES = 10
"""Maximum attempts to write a note that fails; each is made when the next run starts or finishes."""
MOST_MISSED = 100
log = logging.getLogger(__name__)
_missed: dict[tuple[str, str, int], int] = {}
"""Runs whose note could not be written (Dag id, run id, primary key of the run), with the attempts left."""


@hookimpl
def on_dag_run_running(dag_run: DagRun, msg: str) -> None:
    """Create the signing secret, restore deleted tasks, name mapped ones, and reset steps of a resumed run.

    Never raises. Airflow calls this when a run starts, and when a finished one resumes.
    """
    del msg
    for do in (_make_secret, _restore, _name, _resume, _reset_downstream):
        try:
            _do(dag_run, do)
        except Exception:
            log.warning("Run %s was not prepared (%s)", _key(dag_run)[1], do.__name__, exc_info=True)
    _note_missed(dag_run)


@hookimpl
def on_dag_run_success(dag_run: DagRun, msg: str) -> None:
    """Note the run's outcome."""
    _end(dag_run, msg)


@hookimpl
def on_dag_run_failed(dag_run: DagRun, msg: str) -> None:
    """Note the run's outcome, even if it was blocked or cancelled."""
    _end(dag_run, msg)


def _end(dag_run: DagRun, msg: str) -> None:
    """Note the run's outcome; resume the run if `report` ran too soon, or if tasks were cleared meanwhile."""
    note_summary(dag_run)
    try:
        from airflow.utils.state import DagRunState  # noqa: PLC0415

        if msg in BY_SCHEDULER and _in_its_transaction(dag_run, _must_resume):
            # This is what clearing a finished run does: the run restarts, and `report` with it.
            dag_run.set_state(DagRunState.QUEUED)
    except Exception:
        log.warning("The state of run %s may be out of date", _key(dag_run)[1], exc_info=True)


def _must_resume(connection: Connection, dag_run: DagRun) -> bool:
    """Whether tasks of the run were cleared while it was finishing.

    That is, either while `report` ran, whose state Airflow then keeps, or earlier, when the tasks downstream had
    already been skipped or failed.
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
    """Write the run's outcome as its note, unless a user wrote one, and retry missed notes. Never raises."""
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
    """Retry missed notes, in the transaction of the run that starts or finishes now. Never raises."""
    for key, tries in list(_missed.items()):
        do = partial(_note_later, key=key)
        try:
            _in_its_transaction(dag_run, do, of_any_dag=True)
        except Exception:
            log.warning(
                "The note of run %s was not written, attempts left: %d", key[1], tries - 1, exc_info=True
            )
            _missed[key] = tries - 1
            if tries <= 1:
                _missed.pop(key, None)


def _note_later(connection: Connection, dag_run: DagRun, key: tuple[str, str, int]) -> bool:
    """Write a missed note if the run has finished; a run that was resumed gets its note when it finishes."""
    del dag_run
    if _note_of(connection, *key):
        _missed.pop(key, None)
    return False


def _key(dag_run: DagRun) -> tuple[str, str, int]:
    """Dag id, run id, and primary key of the run."""
    # Do not read attributes, which may query the database that has just failed.
    known = getattr(dag_run, "__dict__", {})
    return known.get("dag_id", "?"), known.get("run_id", "?"), known.get("id", 0)


def _do(dag_run: DagRun, do: Callable[[Connection, DagRun], bool]) -> None:
    if session := _in_its_transaction(dag_run, do):
        session.expire(dag_run, ["dag_run_note"])


def _in_its_transaction(
    dag_run: DagRun, do: Callable[[Connection, DagRun], bool], *, of_any_dag: bool = False
) -> Session | None:
    """Call `do` on the connection of a chain's run; return its session if that changed the run."""
    from sqlalchemy.orm import object_session  # noqa: PLC0415 - not in every process that loads plugins

    session = object_session(dag_run)
    if session is None:
        return None
    if session.new or session.dirty:
        # Flush a note that is being written together with the run's state.
        session.flush()
    # Statements on the connection join the session's transaction, but flush nothing and trip none of its guards.
    connection = session.connection()
    # A failed statement aborts a Postgres transaction unless it is inside a savepoint. SQLite continues, and
    # its driver may treat the release of an outermost savepoint as a commit.
    savepoint = nullcontext() if connection.dialect.name == "sqlite" else connection.begin_nested()
    with savepoint:
        changed = (of_any_dag or _is_chain(connection, dag_run)) and do(connection, dag_run)
    return session if changed else None


def _make_secret(connection: Connection, dag_run: DagRun) -> bool:
    del dag_run
    from delivery_chain.airflow_db.signing_secret import make_secret  # noqa: PLC0415

    make_secret(connection)
    return False


def _restore(connection: Connection, dag_run: DagRun) -> bool:
    from delivery_chain.airflow_db.deleted_tasks import restore  # noqa: PLC0415

    restored = restore(connection, dag_run)
    if restored:
        log.info("Run %s: restored deleted tasks: %s", dag_run.run_id, ", ".join(restored))
    return False


def _name(connection: Connection, dag_run: DagRun) -> bool:
    from delivery_chain.airflow_db.outcomes import name_instances  # noqa: PLC0415

    spec = _spec(dag_run)
    if spec:
        name_instances(connection, dag_run.dag_id, dag_run.run_id, spec)
    return False


def _spec(dag_run: DagRun) -> ChainSpec | None:
    """The spec that the run's Dag was built from, as Airflow stored it with the Dag."""
    from delivery_chain.core.spec.model import ChainSpec  # noqa: PLC0415

    dag: Any = getattr(dag_run, "dag", None)
    text = dag.get_task(Step.PLAN).doc_json if dag is not None and dag.has_task(Step.PLAN) else None
    return ChainSpec.model_validate_json(text) if text else None


def _resume(connection: Connection, dag_run: DagRun) -> bool:
    """Let a resumed run report its outcome again, whatever was cleared, and mark its previous note as outdated."""
    from delivery_chain.airflow_db.outcomes import marks_in  # noqa: PLC0415
    from delivery_chain.airflow_db.reopening import reset_closing  # noqa: PLC0415
    from delivery_chain.airflow_db.run_notes import Noted, is_noted, rewrite  # noqa: PLC0415
    from delivery_chain.core.run.resume import resumed  # noqa: PLC0415

    reset_closing(connection, dag_run.dag_id, dag_run.run_id, _retries(dag_run))
    run = Noted(dag_run.dag_id, dag_run.run_id, dag_run.id)
    if not is_noted(connection, run):
        return False
    return rewrite(connection, run, resumed(marks_in(connection, dag_run.dag_id, dag_run.run_id)))


def _reset_downstream(connection: Connection, dag_run: DagRun) -> bool:
    """Reset steps that never ran, but that Airflow considers finished, if they are downstream of rerun tasks."""
    from delivery_chain.airflow_db.outcomes import facts_of  # noqa: PLC0415
    from delivery_chain.airflow_db.reopening import reset  # noqa: PLC0415
    from delivery_chain.core.run.resume import to_reset  # noqa: PLC0415

    facts = facts_of(connection, dag_run.dag_id, dag_run.run_id)
    if facts is not None:
        reset(connection, dag_run.dag_id, dag_run.run_id, to_reset(facts), _retries(dag_run))
    return False


def _retries(dag_run: DagRun) -> dict[str, int]:
    """Number of retries of each task of the run's Dag."""
    dag: Any = getattr(dag_run, "dag", None)
    return {task.task_id: task.retries or 0 for task in dag.tasks} if dag is not None else {}


def _note(connection: Connection, dag_run: DagRun) -> bool:
    return _note_of(connection, dag_run.dag_id, dag_run.run_id, dag_run.id, state=str(dag_run.state))


def _note_of(connection: Connection, dag_id: str, run_id: str, number: int, *, state: str = "") -> bool:
    """Note a run's outcome; return whether no note is due any more.

    Uses only proven facts, so that users who mark a run or edit XComs do not change its note.
    """
    from delivery_chain.airflow_db.outcomes import facts_of  # noqa: PLC0415
    from delivery_chain.airflow_db.run_notes import Noted, write  # noqa: PLC0415
    from delivery_chain.core.run.end import OPEN  # noqa: PLC0415
    from delivery_chain.core.run.state import outcome  # noqa: PLC0415

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
