# ruff: noqa: PLC0415 - each kind imports what it alone needs
"""Measures the time that a chain costs at Dag parsing and at a task's start, against a handwritten Dag and dag-factory.

Every measurement runs in a process of its own; the kinds take turns, so that a busy machine slows them all alike.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("chain", "by hand", "by hand, form last", "dag-factory", "task start")
SIZES = (1, 10, 100, 1000)
LONGEST = 300.0
"""Timeout of one measurement, in seconds."""
TASKS = 11
"""Number of tasks of every Dag here."""
MARK = "measured "
Measured = dict[str, float]


def name_of(number: int) -> str:
    return f"bench-{number:04}"


def write_specs(folder: Path, size: int) -> None:
    """Write the release chain of chain_specs/ `size` times, under other names."""
    text = (ROOT / "chain_specs" / "shop-api.yaml").read_text(encoding="utf-8")
    for number in range(size):
        name = name_of(number)
        renamed = text.replace("name: shop-api", f"name: {name}").replace(
            "namespace: shop", f"namespace: {name}"
        )
        (folder / f"{name}.yaml").write_text(renamed, encoding="utf-8")


def write_dag_factory(folder: Path, size: int) -> None:
    """Write Dags with as many tasks and edges for dag-factory, one file each, but without mapped tasks and form."""
    after = {
        "plan": [], "build": ["plan"], "assemble": ["build", "plan"], "scan": ["assemble"],
        "gate": ["scan", "assemble"], "publish": ["gate"], "quarantine": ["gate"], "denied": ["quarantine"],
        "replicate": ["publish"], "distribute": ["replicate", "publish"],
        "report": ["distribute", "denied"],
    }  # fmt: skip
    tasks = [
        {
            "task_id": task,
            "operator": "airflow.providers.standard.operators.bash.BashOperator",
            "bash_command": f"echo {task}",
            "dependencies": before,
        }
        for task, before in after.items()
    ]
    for number in range(size):
        # JSON is valid YAML, but some parsers read it more slowly: write what a user would write.
        import yaml

        dag = {"default_args": {"owner": "bench", "retries": 3}, "schedule": None, "tasks": tasks}
        text = yaml.dump({name_of(number): dag}, Dumper=_NoAliases, sort_keys=False)
        (folder / f"{name_of(number)}.yaml").write_text(text, encoding="utf-8")


def _no_aliases() -> type:
    import yaml

    return type("NoAliases", (yaml.SafeDumper,), {"ignore_aliases": lambda *_: True})


_NoAliases = _no_aliases()


@cache
def release_chain() -> Any:
    """Return the spec for the first task of the handwritten Dag, read before anything is measured."""
    from delivery_chain.spec_store.folder import load

    (spec,) = load(ROOT / "chain_specs" / "shop-api.yaml").specs.values()
    return spec


def hand_written(number: int, *, form_last: bool) -> Any:
    """Build the Dag of the release chain as its author would write it without a spec."""
    from airflow.sdk import DAG, Param, TriggerRule
    from airflow.sdk.definitions.param import ParamsDict

    from delivery_chain.operators.build import AssembleOperator, BuildOperator
    from delivery_chain.operators.distribute import DistributeOperator
    from delivery_chain.operators.plan import PlanOperator
    from delivery_chain.operators.publish import PublishOperator
    from delivery_chain.operators.quarantine import DeniedOperator, QuarantineOperator
    from delivery_chain.operators.replicate import ReplicateOperator
    from delivery_chain.operators.report import ReportOperator
    from delivery_chain.operators.scan import GateOperator, ScanOperator
    from delivery_chain.retry import ChainRetryPolicy

    text, build_it, take_it = ["null", "string"], "Build a git ref", "Or take an image that is there"
    form = {
        "rule": Param(None, type=text, enum=[None, "release"], title="Build rule", section=build_it,
                      description_md="**release**: a tag"),
        "ref": Param(None, type=text, title="Branch or tag", section=build_it,
                     description_md="Stands in for a push of this ref, for example `v1.2.0`."),
        "repository": Param(None, type=text, enum=[None, "api"], title="Repository", section=take_it,
                            description_md="In namespace `shop`."),
        "tag": Param(None, type=text, title="Image tag", section=take_it, description_md="For example `v1.2.0`."),
        "digest": Param(None, type=text, title="Image digest", section=take_it, description_md="`sha256:…`"),
    }  # fmt: skip
    with DAG(
        dag_id=name_of(number),
        description="Build, scan, replicate and roll out the shop's API.",
        doc_md="# The shop's API\n\nA git tag becomes an image, is scanned, copied and announced.",
        schedule=None,
        catchup=False,
        max_active_runs=16,
        default_args={"retries": 3, "retry_delay": timedelta(seconds=10), "owner": "bench",
                      "retry_policy": ChainRetryPolicy()},
        tags=["delivery-chain", "shop"],
        params=None if form_last else form,
    ) as dag:  # fmt: skip
        some = TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS
        plan = PlanOperator(task_id="plan", spec=release_chain())
        build = BuildOperator.partial(task_id="build", map_index_template="{{ task.about(ti) }}").expand(
            slot=[0]
        )
        assemble = AssembleOperator(task_id="assemble", trigger_rule=some)
        scan = ScanOperator.partial(task_id="scan", map_index_template="{{ task.about(ti) }}").expand(
            slot=[0]
        )
        gate = GateOperator(task_id="gate", trigger_rule=some)
        publish = PublishOperator(task_id="publish", max_active_tis_per_dag=1)
        quarantine = QuarantineOperator(task_id="quarantine")
        denied = DeniedOperator(task_id="denied")
        replicate = ReplicateOperator.partial(
            task_id="replicate", map_index_template="{{ task.about(ti) }}"
        ).expand(slot=[0, 1])
        distribute = DistributeOperator.partial(
            task_id="distribute", map_index_template="{{ task.about(ti) }}", trigger_rule=TriggerRule.ALL_DONE
        ).expand(slot=[0])
        plan >> build >> assemble >> scan >> gate >> [publish, quarantine]
        plan >> assemble >> gate
        quarantine >> denied
        publish >> replicate >> distribute
        publish >> distribute
        report = ReportOperator(task_id="report").as_teardown(setups=[])
        [distribute, denied] >> report
    if form_last:
        dag.params = ParamsDict(form)
    return dag


def build(kind: str, size: int, folder: Path) -> dict[str, Any]:
    """Build the Dags of one kind, as a Dag file would."""
    if kind == "chain":
        from delivery_chain.dag_files.factory import make_chain_dag
        from delivery_chain.spec_store.folder import load

        return {spec.name: make_chain_dag(spec) for spec in load(folder).specs.values()}
    if kind == "dag-factory":
        from dagfactory import load_yaml_dags  # type: ignore[import-not-found]

        found: dict[str, Any] = {}
        load_yaml_dags(globals_dict=found, dags_folder=str(folder), defaults_config_path=str(folder))
        return found
    if kind == "task start":
        import runpy

        return {
            name_of(size - 1): runpy.run_path(str(ROOT / "dags" / "delivery_chains.py"))[name_of(size - 1)]
        }
    return {name_of(n): hand_written(n, form_last=kind.endswith("last")) for n in range(size)}


def measure(kind: str, size: int, folder: Path) -> Measured:
    """Measure the seconds to parse and to serialize, in this process, after all imports."""
    from airflow.serialization.serialized_objects import DagSerialization

    if kind == "dag-factory":
        import dagfactory  # noqa: F401
    hand_written(0, form_last=True)
    start = time.perf_counter()
    dags = build(kind, size, folder)
    parsed = time.perf_counter()
    expected = 1 if kind == "task start" else size
    assert len(dags) == expected, f"{kind}: expected {expected} Dags, found {len(dags)}"
    for dag in dags.values():
        assert len(dag.tasks) == TASKS, f"{kind}: expected {TASKS} tasks, found {len(dag.tasks)}"
    again = time.perf_counter()
    for dag in dags.values():
        DagSerialization.to_dict(dag)
    return {"parse": parsed - start, "serialise": time.perf_counter() - again}


def measure_apart(kind: str, size: int, target: str, scratch: Path) -> Measured:
    """Run `measure` in a process of its own, with its own specs folder and Airflow home."""
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        folder = Path(name)
        (write_dag_factory if kind == "dag-factory" else write_specs)(folder, size)
        path = os.pathsep.join(part for part in (str(ROOT / "plugins"), target) if part)
        environment = {
            **os.environ,
            "PYTHONPATH": path,
            "AIRFLOW_HOME": str(scratch),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DELIVERY_CHAIN__SPECS_FOLDER": name,
            "DO_NOT_TRACK": "1",
        }
        if kind == "task start":
            environment["_AIRFLOW_PARSING_CONTEXT_DAG_ID"] = name_of(size - 1)
            environment["_AIRFLOW_PARSING_CONTEXT_TASK_ID"] = "plan"
        command = [sys.executable, __file__, "--measure", kind, str(size), name]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=LONGEST, check=False
        )
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if not lines:
        raise SystemExit(
            f"{kind}, {size} Dags: expected a measurement, found\n{done.stdout}{done.stderr}"[-3000:]
        )
    found: Measured = json.loads(lines[-1].removeprefix(MARK))
    return found


def importable(target: str) -> bool:
    path = [str(Path(target)), *sys.path] if target else sys.path
    return any((Path(part) / "dagfactory" / "__init__.py").is_file() for part in path)


def table(results: dict[tuple[str, int], list[Measured]], sizes: list[int], kinds: list[str]) -> str:
    """Format the medians in milliseconds, and the ratios between the kinds."""

    def middle(kind: str, size: int, what: str) -> float:
        return median(measured[what] for measured in results[kind, size])

    lines = [
        "| Dags | what | "
        + " | ".join(kinds)
        + " | chain / by hand | chain / form last | dag-factory / chain |"
    ]
    lines.append("|---:|---|" + "---:|" * (len(kinds) + 3))
    for size in sizes:
        for what in ("parse", "serialise"):
            cells = [f"{1000 * middle(kind, size, what):.1f} ms" for kind in kinds]
            own = middle("chain", size, what)
            cells.append(f"{own / middle('by hand', size, what):.2f}")
            cells.append(f"{own / middle('by hand, form last', size, what):.2f}")
            cells.append(f"{middle('dag-factory', size, what) / own:.2f}" if "dag-factory" in kinds else "")
            lines.append(f"| {size} | {what} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each kind and size (3)")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="numbers of Dags")
    parser.add_argument(
        "--dag-factory", default="", metavar="FOLDER", help="where pip --target put dag-factory"
    )
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        kind, size, folder = arguments.measure
        print(
            MARK + json.dumps(measure(kind, int(size), Path(folder)))
        )  # a line of its own among Airflow's logs
        return
    kinds = [kind for kind in KINDS if kind != "dag-factory" or importable(arguments.dag_factory)]
    if "dag-factory" not in kinds:
        print("dag-factory can't be imported, so its column is omitted: see benchmarks/README.md\n")
    results: dict[tuple[str, int], list[Measured]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch:
        for size in arguments.sizes:
            for _ in range(arguments.rounds):
                for kind in kinds:
                    results[kind, size].append(
                        measure_apart(kind, size, arguments.dag_factory, Path(scratch))
                    )
            print(f"{size} done", file=sys.stderr)
    cores = os.cpu_count()
    print(f"{datetime.now(UTC):%Y-%m-%d}, {cores} cores, Python {platform.python_version()}, ", end="")
    print(f"median of {arguments.rounds}\n\n{table(results, arguments.sizes, kinds)}")


if __name__ == "__main__":
    main()
