"""Checks Airflow itself: database and clock, processes, the chains' Dags, webhook senders, the signing secret."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from delivery_chain.airflow_db import health
from delivery_chain.core.diagnosis import Check, Line, clock, ok, problem, warning
from delivery_chain.core.events.watch_dags import watched, watched_images, watches
from delivery_chain.core.seal import SHORTEST, SIGNING_SECRET
from delivery_chain.core.spec.connections import GIT, REGISTRY, nearest
from delivery_chain.core.steps import WatchStep
from delivery_chain.hooks.webhook_sender import WebhookSenderHook
from delivery_chain.provider_info import SENDERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from delivery_chain.airflow_db.health import DagRow
    from delivery_chain.doctor.scene import Scene

PROCESSES = {
    "SchedulerJob": ("scheduler", "no run starts or proceeds"),
    "DagProcessorJob": ("dag-processor", "no new or changed chain becomes a Dag"),
    "TriggererJob": ("triggerer", "no source and no registry is watched"),
}
"""The command that starts each type of Airflow job, and the effect of its absence."""


def database_line() -> Line:
    """The line for the database and the offset of its clock from this machine's."""
    kind, now = health.dialect_and_time()
    if now is None:
        return ok("database", "Airflow's", "responds (SQLite, for evaluation only)")
    line = clock("Airflow's database", now - datetime.now(UTC))
    return line if line.remedy else ok("database", "Airflow's", f"responds ({kind}), and its clock agrees")


def checks(scene: Scene) -> Iterator[Check]:
    """Yield the checks that read Airflow's database."""
    yield Check("airflow", "processes", _processes)
    yield Check("dag", "chains", lambda: _dags(scene))
    yield Check("airflow", "pool", lambda: _pool(scene))
    yield Check("webhook", "senders", lambda: _senders(scene))
    yield Check("secret", SIGNING_SECRET, _signing_secret)


def _processes() -> Iterator[Line]:
    found = health.processes(PROCESSES)
    for job_type, (command, without) in PROCESSES.items():
        newest = found.get(job_type)
        if newest is not None and newest.alive:
            yield ok("airflow", command, f"runs on {newest.host}")
            continue
        last = newest.heard_of if newest is not None else None
        since = f"last heartbeat was at {last:%Y-%m-%d %H:%M:%S} UTC" if last else "has never run"
        yield problem("airflow", command, f"{since}: {without}", f"start it: airflow {command}")


def _dags(scene: Scene) -> Iterator[Line]:
    specs = list(scene.specs.values())
    wanted = {spec.name: "chain" for spec in specs}
    wanted |= dict.fromkeys([*watched(specs), *watched_images(specs)], WatchStep.WATCH)
    found = health.dag_rows(wanted)
    failing = health.failing_dags([dag_id for dag_id, what in wanted.items() if what == WatchStep.WATCH])
    for dag_id, what in wanted.items():
        yield _dag(dag_id, what, found.get(dag_id), failing)


def _dag(dag_id: str, what: str, row: DagRow | None, failing: set[str]) -> Line:
    if row is None:
        remedy = (
            "set [core] dags_folder to the output of `delivery-chain dags-folder`, check that the Dag processor runs "
            "and reads the same specs_folder, and wait a minute"
        )
        return problem("dag", dag_id, "Airflow has no such Dag", remedy)
    if row.has_import_errors:
        return problem(
            "dag", dag_id, "its file has import errors", "airflow dags list-import-errors shows them"
        )
    if row.is_paused:
        waits = "its runs wait" if what == "chain" else "nothing is watched"
        return warning("dag", dag_id, f"is paused: {waits}", f"airflow dags unpause {dag_id}")
    if dag_id in failing:
        said = "its last poll failed: pushes are found by webhooks only, if at all"
        return warning(
            "dag", dag_id, said, "see the lines of its connection, and the log of its task `watch`"
        )
    return ok("dag", dag_id, "exists and is not paused")


def _pool(scene: Scene) -> Iterator[Line]:
    name = scene.settings.replicate_pool
    if not any(spec.replicate for spec in scene.specs.values()):
        return
    slots = health.pool_slots(name)
    if slots is None:
        remedy = f"airflow pools set {name} 8 'replications', or correct [delivery_chain] replicate_pool"
        yield problem("airflow", f"pool {name}", "does not exist, so no image is ever replicated", remedy)
    else:
        yield ok("airflow", f"pool {name}", f"{slots} slots for replications")


def _senders(scene: Scene) -> Iterator[Line]:
    places = {one.connection for one in scene.needed if one.conn_type in {GIT, REGISTRY}}
    dags = [*watched(scene.specs.values()), *watched_images(scene.specs.values())]
    for name in sorted(name for name, kind in (scene.known or {}).items() if kind == "webhook_sender"):
        yield _sender(scene, name, places, dags)


def _sender(scene: Scene, name: str, places: set[str], dags: list[str]) -> Line:
    sender = WebhookSenderHook(name).sender()
    edit = f"correct connection {name!r} under Admin > Connections"
    if sender.kind not in SENDERS:
        said = f"sender {sender.kind!r}: expected one of {', '.join(SENDERS)}"
        return problem("webhook", name, said, edit)
    if not sender.secrets:
        return problem("webhook", name, "has no secret, so every delivery is refused", edit)
    known = {one for one, kind in (scene.known or {}).items() if kind in {GIT, REGISTRY}}
    for one in sender.speaks_for:
        if one not in known | scene.names():
            like = nearest(one, known)
            meant = f"; did you mean {like!r}?" if like else ""
            return problem("webhook", name, f"speaks for {one!r}, but no such connection exists{meant}", edit)
    if not any(one in places or any(watches(dag, one) for dag in dags) for one in sender.speaks_for):
        said = f"speaks for {', '.join(sender.speaks_for)}, from which no checked chain takes anything"
        return warning("webhook", name, said, f"{edit}, or add a chain")
    return ok("webhook", name, f"{sender.kind} speaks for {', '.join(sender.speaks_for)}")


def _signing_secret() -> Iterator[Line]:
    secret = health.signing_secret()
    if not secret:
        yield ok(
            "secret", SIGNING_SECRET, "not created yet: the scheduler does so with the first run of a chain"
        )
    elif len(secret) < SHORTEST:
        remedy = (
            f"airflow variables delete {SIGNING_SECRET}; the scheduler creates a new one with the next run"
        )
        yield problem(
            "secret",
            SIGNING_SECRET,
            f"is shorter than {SHORTEST} characters: no step's results are trusted",
            remedy,
        )
    else:
        yield ok("secret", SIGNING_SECRET, "exists")
