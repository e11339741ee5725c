"""Builds all Dags: one per chain, one per git source or namespace of images, and those for maintenance.

To keep parsing fast, it imports no tool, no HTTP client and no provider but the standard one, and reads no connection.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, TriggerRule

from delivery_chain.core.dags import CHAIN_TAG, EXISTING, IMAGES_TAG, MAINTENANCE, REMOVED, SOURCE_TAG
from delivery_chain.core.events.watch_dags import watched, watched_images
from delivery_chain.core.spec.describe import chain_doc
from delivery_chain.core.spec.slots import widest, widths
from delivery_chain.core.spec.standing import Standing
from delivery_chain.core.steps import Step, WatchStep
from delivery_chain.dag_files.forms import chain_form, existing_form
from delivery_chain.operators.build import AssembleOperator, BuildOperator
from delivery_chain.operators.distribute import DistributeOperator
from delivery_chain.operators.plan import PlanOperator
from delivery_chain.operators.publish import PublishOperator
from delivery_chain.operators.quarantine import DeniedOperator, QuarantineOperator
from delivery_chain.operators.replicate import ReplicateOperator
from delivery_chain.operators.report import ReportOperator
from delivery_chain.operators.scan import GateOperator, ScanOperator
from delivery_chain.operators.slots import LABEL
from delivery_chain.retry import PLAN, STEPS, WATCHES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from delivery_chain.core.spec.model import ChainSpec, Source

SOURCE_DOC = """Waits for a branch or tag to change, then starts a run of each chain that builds it: {chains}.

One run is always active: its task `watch` is deferred, and takes no worker slot.
The cursor is in the Variable `{variable}`. While this Dag is paused, pushes wait.
"""
IMAGES_DOC = """Waits for an image tag to appear or to move, then starts a run of the chain that takes it: {chains}.

This is for images that others push; images built by chains already have runs.
The cursor is in the Variable `{variable}`. While this Dag is paused, pushes wait.
"""
OVER_DOC = """Watched for chains that were removed from the specs. The last run of this Dag ends within minutes.

The cursor is kept for a day: if a chain that needs it is restored by then, no push was missed. Then this Dag is removed
as well.
"""
MAINTENANCE_DOC = """Removes staging tags that crashed runs left behind, one task per chain.

Tags younger than `[delivery_chain] staging_keep_hours` stay: their run may be in flight.
"""
REMOVED_DOC = """Exists while removed chains are remembered: for a day, and as long as they have runs.

One task per chain checks whether the chain has runs in flight and, once it has none, removes their staging tags.
The chain's Dag is then removed; its runs stay in Airflow's history. If one of them is cleared within that day, the Dag
comes back for it within minutes.
"""
EXISTING_DOC = """Backfills regions with images that are older than their replication rule.

Each image that a region lacks gets a run of the chain: scanned, judged and copied as usual, without firing triggers.
Images already there under the same digest are skipped, so this Dag can be run repeatedly.
"""
TRIGGER_TIMEOUT = timedelta(minutes=15)
"""Time limit of a delivery: a target that sends its response byte by byte would reset every shorter timeout."""
FOR_EVER = 10 * 365 * 86400
"""Seconds for which a watching task waits for a change."""
OWNER = "delivery-chain"
MOST_RUNS = 64
"""Maximum number of active runs of a chain. A run that waits for an unreachable server takes no worker, so many more
are allowed than `[core] max_active_tasks_per_dag` lets work; each costs the scheduler only an occasional check."""


def make_chain_dag(
    spec: ChainSpec,
    *,
    replicate_pool: str = "default_pool",
    standing: Standing | None = None,
    room: Mapping[str, int] | None = None,
) -> DAG:
    """Build the Dag of one chain: plan, build, assemble, scan, gate, then publish or quarantine, and the report.

    Args:
        spec: The chain.
        replicate_pool: Airflow pool in which each of its replications takes a slot.
        standing: Status of this version of the spec.
        room: Number of instances of each mapped step; by default as many as the spec and its earlier versions need.
    """
    standing = standing or Standing()
    room = room or widest(widths(spec), standing.room)
    dag = DAG(
        dag_id=spec.name,
        dag_display_name=spec.name,
        description=spec.description or None,
        doc_md=chain_doc(spec, standing),
        schedule=None,
        catchup=False,
        max_active_runs=MOST_RUNS,
        # Runs that have progressed further go first: of many pushes, the first image ships before the last starts.
        default_args={"owner": OWNER, "weight_rule": "upstream", **STEPS},
        tags=[CHAIN_TAG, spec.scope.namespace, *standing.tags],
        is_paused_upon_creation=None,
    )
    with dag:
        _add_steps(spec, replicate_pool, room)
    # Set after the tasks: otherwise each task gets its own copy of the form, and takes many times longer to serialize.
    dag.params = chain_form(spec)
    return dag


def _add_steps(spec: ChainSpec, replicate_pool: str, room: Mapping[str, int]) -> None:
    slots = {step: list(range(width)) for step, width in room.items()}
    plan = PlanOperator(task_id=Step.PLAN, spec=spec, **PLAN)
    build = BuildOperator.partial(task_id=Step.BUILD, map_index_template=LABEL).expand(slot=slots[Step.BUILD])
    some = TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS
    assemble = AssembleOperator(task_id=Step.ASSEMBLE, trigger_rule=some)
    scan = ScanOperator.partial(task_id=Step.SCAN, map_index_template=LABEL).expand(slot=slots[Step.SCAN])
    gate = GateOperator(task_id=Step.GATE, trigger_rule=some)
    publish = PublishOperator(task_id=Step.PUBLISH, max_active_tis_per_dag=1)
    quarantine = QuarantineOperator(task_id=Step.QUARANTINE)
    denied = DeniedOperator(task_id=Step.DENIED)
    replicate = ReplicateOperator.partial(
        task_id=Step.REPLICATE, map_index_template=LABEL, pool=replicate_pool
    ).expand(slot=slots[Step.REPLICATE])
    distribute = DistributeOperator.partial(
        task_id=Step.DISTRIBUTE,
        map_index_template=LABEL,
        trigger_rule=TriggerRule.ALL_DONE,
        execution_timeout=TRIGGER_TIMEOUT,
    ).expand(slot=slots[Step.DISTRIBUTE])
    plan >> build >> assemble >> scan >> gate >> [publish, quarantine]
    plan >> assemble >> gate
    quarantine >> denied
    publish >> replicate >> distribute
    publish >> distribute
    # This task determines the run's state: it runs whatever the others did, and fails unless the outcome is good.
    report = ReportOperator(task_id=Step.REPORT).as_teardown(setups=[], on_failure_fail_dagrun=True)
    [distribute, denied] >> report


def make_source_dags(specs: Iterable[ChainSpec], wanted: str | None = None) -> dict[str, DAG]:
    """Build the Dags that watch the sources and images of all chains, by id; only the `wanted` one, if given."""
    specs = list(specs)
    sources = {
        dag_id: _source_dag(dag_id, source, chains)
        for dag_id, (source, chains) in watched(specs).items()
        if wanted in {None, dag_id}
    }
    images = {
        dag_id: _images_dag(dag_id, chains)
        for dag_id, chains in watched_images(specs).items()
        if wanted in {None, dag_id}
    }
    return sources | images


def _source_dag(dag_id: str, source: Source, chains: list[tuple[ChainSpec, str]]) -> DAG:
    from delivery_chain.operators.match import MatchOperator
    from delivery_chain.operators.watch import WatchOperator

    built = [f"{spec.name} ({repository})" for spec, repository in chains]
    with _watching_dag(
        dag_id,
        dag_display_name=f"source {source.connection} {source.url}".strip(),
        description=f"Starts {', '.join(built)} when a branch or tag changes.",
        doc_md=SOURCE_DOC.format(chains=", ".join(built), variable=dag_id),
        tags=[SOURCE_TAG],
    ) as dag:
        watch = WatchOperator(
            task_id=WatchStep.WATCH,
            connection=source.connection,
            url=source.url,
            cursor=dag_id,
            timeout=FOR_EVER,
        )
        _start(watch, MatchOperator(task_id=WatchStep.MATCH, chains=tuple(chains), cursor=dag_id))
    return dag


def _images_dag(dag_id: str, specs: list[ChainSpec]) -> DAG:
    from delivery_chain.operators.match import MatchOperator
    from delivery_chain.operators.watch import WatchImagesOperator

    scope = specs[0].scope
    takers = [spec for spec in specs if not spec.build_rules]
    names = [f"{scope.namespace}/{name}" for spec in takers for name in spec.scope.repositories]
    everything = next((spec.scope for spec in takers if spec.scope.all), None)
    # Repositories listed by a building chain belong to it, whichever chain takes the rest of the namespace.
    built = [name for spec in specs if spec.build_rules for name in spec.scope.repositories]
    left_out = dict.fromkeys((*everything.exclude, *built)) if everything else {}
    chains = ", ".join(spec.name for spec in takers)
    with _watching_dag(
        dag_id,
        dag_display_name=f"images {scope.instance} {scope.namespace}",
        description=f"Starts {chains} when an image is pushed.",
        doc_md=IMAGES_DOC.format(chains=chains, variable=dag_id),
        tags=[IMAGES_TAG],
    ) as dag:
        watch = WatchImagesOperator(
            task_id=WatchStep.WATCH,
            connection=scope.instance,
            repositories=tuple(dict.fromkeys(names)),
            namespaces=(scope.namespace,) if everything else (),
            exclude=tuple(f"{scope.namespace}/{name}" for name in left_out),
            cursor=dag_id,
            timeout=FOR_EVER,
        )
        _start(
            watch,
            MatchOperator(task_id=WatchStep.MATCH, images_of=scope.instance, specs=specs, cursor=dag_id),
        )
    return dag


def _watching_dag(dag_id: str, **about: Any) -> DAG:
    return DAG(
        dag_id=dag_id,
        schedule="@continuous",
        # Without a start date, the first two runs of a continuous Dag get the same logical date, and it stops forever.
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        max_active_runs=1,
        catchup=False,
        default_args={"owner": OWNER, **WATCHES},
        **about,
    )


def _start(watch: Any, match: Any) -> None:
    """Add the tasks with which every watching Dag handles changes."""
    from delivery_chain.operators.match import RememberOperator
    from delivery_chain.operators.start import StartOperator

    start = StartOperator.partial(
        task_id=WatchStep.START, skip_when_already_exists=True, map_index_template="{{ task.trigger_dag_id }}"
    ).expand_kwargs(match.output)
    remember = RememberOperator(
        task_id=WatchStep.REMEMBER, cursor=match.cursor, trigger_rule=TriggerRule.NONE_FAILED
    )
    watch >> match >> start >> remember


def make_over_dags(dag_ids: Iterable[str]) -> dict[str, DAG]:
    """Build the watching Dags that no chain needs any more: without them Airflow would never finish their last runs."""
    from delivery_chain.operators.watch import OverOperator

    made = {}
    for dag_id in dag_ids:
        with DAG(
            dag_id=dag_id,
            description="No chain needs it any more.",
            doc_md=OVER_DOC,
            schedule=None,
            catchup=False,
            default_args={"owner": OWNER, **WATCHES},
            tags=[MAINTENANCE],
        ) as made[dag_id]:
            OverOperator(task_id=WatchStep.WATCH)
    return made


def make_maintenance_dag(specs: Iterable[ChainSpec]) -> DAG:
    """Build the Dag that removes staging tags of crashed runs, one task per chain, once a day."""
    from delivery_chain.operators.staging_cleanup import StagingCleanupOperator

    with DAG(
        dag_id=MAINTENANCE,
        description="Removes staging tags that crashed runs left behind.",
        doc_md=MAINTENANCE_DOC,
        schedule="@daily",
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        default_args={"owner": OWNER, **STEPS},
        tags=[MAINTENANCE],
    ) as dag:
        for spec in specs:
            StagingCleanupOperator(task_id=f"sweep-{spec.name}", spec=spec)
    return dag


def make_removed_dag(names: Iterable[str], *, unsettled: bool) -> DAG:
    """Build the Dag that waits for the last runs of removed chains, one task per chain."""
    from delivery_chain.operators.settle import SettleOperator

    with DAG(
        dag_id=REMOVED,
        description="Waits for the last runs of removed chains, and cleans up after them.",
        doc_md=REMOVED_DOC,
        # Runs of settled chains may be cleared as well.
        schedule=timedelta(minutes=1 if unsettled else 5),
        start_date=datetime(2026, 1, 1, tzinfo=UTC),
        catchup=False,
        max_active_runs=1,
        default_args={"owner": OWNER, **STEPS},
        tags=[MAINTENANCE],
        # Never created paused: it appears and disappears by itself, so no user would unpause it.
        is_paused_upon_creation=False,
    ) as dag:
        for name in names:
            SettleOperator(task_id=f"settle-{name}", chain=name)
    return dag


def make_existing_dag(specs: Iterable[ChainSpec]) -> DAG:
    """Build the Dag that backfills regions with images older than a replication rule."""
    from delivery_chain.operators.backfill import ExistingOperator
    from delivery_chain.operators.start import StartOperator

    replicating = [spec for spec in specs if spec.replicate]
    with DAG(
        dag_id=EXISTING,
        description="Backfills regions with images that are older than their replication rule.",
        doc_md=EXISTING_DOC,
        schedule=None,
        catchup=False,
        max_active_runs=1,
        default_args={"owner": OWNER, **STEPS},
        tags=[EXISTING],
    ) as dag:
        look = ExistingOperator(task_id="look", specs=replicating)
        start = StartOperator.partial(
            task_id=WatchStep.START,
            skip_when_already_exists=True,
            map_index_template="{{ task.trigger_run_id }}",
        ).expand_kwargs(look.output)
        look >> start
    dag.params = existing_form(replicating)
    return dag
