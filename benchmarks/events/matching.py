"""Measures the cost of matching a push against 10, 100 and 1000 chains, and of the index of all chains."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
SIZES = (10, 100, 1000)
SHAPES = ("a source each", "one source for all")
LONGEST = 600.0
"""Timeout of one measurement, in seconds."""
CALLS = 300


def name_of(number: int) -> str:
    return f"bench-{number:04}"


def spec_text(number: int, shape: str) -> str:
    """Return the release chain of chain_specs/ under another name, with a source or with tags of its own."""
    name = name_of(number)
    text = (ROOT / "chain_specs" / "shop-api.yaml").read_text(encoding="utf-8")
    text = text.replace("name: shop-api", f"name: {name}").replace("namespace: shop", f"namespace: {name}")
    if shape == SHAPES[0]:
        return text.replace("url: shop/api.git", f"url: {name}/api.git")
    return text.replace("tag: 'v(?<version>", f"tag: '{name}/v(?<version>")


def push(size: int, shape: str) -> tuple[str, str]:
    """Return the source and the ref of a push that one chain builds."""
    name = name_of(size // 2)
    return (
        (f"{name}/api.git", "refs/tags/v1.2.3")
        if shape == SHAPES[0]
        else ("shop/api", f"refs/tags/{name}/v1.2.3")
    )


def median_of(call: Callable[[], Any], calls: int) -> float:
    """Return the median duration of one call, in seconds."""
    found = []
    for _ in range(calls):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def measured(size: int, shape: str) -> dict[str, float]:
    """Measure, in a process with a database of its own; return milliseconds by kind."""
    from airflow.utils.session import create_session  # noqa: PLC0415 - reads the environment set for this process

    from delivery_chain.core.events.routing import source_starts  # noqa: PLC0415
    from delivery_chain.web import index as module  # noqa: PLC0415

    with create_session() as session:
        _fill(session, size, shape)
    index = module.Index()
    began = time.perf_counter()
    chains = index.chains()
    first = time.perf_counter() - began
    assert len(chains.specs) == size, f"expected {size} chains in the index, found {len(chains.specs)}"
    place, ref = push(size, shape)
    places = (place, f"https://git.example.com/{place}")

    def match() -> int:
        found = chains.at(("git_shop",), places)
        return sum(
            len(source_starts(one.for_ref(ref), ref=ref, commit="1" * 40, previous="2" * 40)) for one in found
        )

    assert match() == 1
    return {
        "match": 1000 * median_of(match, CALLS),
        "first": 1000 * first,
        "again": 1000 * median_of(index._refresh, 5),  # noqa: SLF001 - a request triggers it every five seconds
    }


def _fill(session: Any, size: int, shape: str) -> None:
    """Write the chains' Dags as the Dag processor does, omitting columns that the index does not read."""
    from airflow.models import import_all_models  # noqa: PLC0415
    from airflow.models.base import Base  # noqa: PLC0415
    from airflow.models.connection import Connection  # noqa: PLC0415
    from airflow.models.dag import DagModel, DagTag  # noqa: PLC0415
    from airflow.models.dag_version import DagVersion  # noqa: PLC0415
    from airflow.models.dagbundle import DagBundleModel  # noqa: PLC0415
    from airflow.models.serialized_dag import SerializedDagModel  # noqa: PLC0415
    from airflow.serialization.serialized_objects import LazyDeserializedDAG  # noqa: PLC0415

    from delivery_chain.core.dags import CHAIN_TAG  # noqa: PLC0415
    from delivery_chain.core.spec.parse import parse_spec  # noqa: PLC0415
    from delivery_chain.dag_files.factory import make_chain_dag  # noqa: PLC0415

    import_all_models()
    Base.metadata.create_all(session.connection())
    session.add(DagBundleModel(name="bench"))
    session.add(Connection(conn_id="git_shop", conn_type="git", host="https://git.example.com"))
    session.flush()
    for number in range(size):
        dag = make_chain_dag(parse_spec(spec_text(number, shape), ""))
        session.add(
            DagModel(dag_id=dag.dag_id, bundle_name="bench", is_stale=False, tags=[DagTag(name=CHAIN_TAG)])
        )
        session.flush()
        version = DagVersion(dag_id=dag.dag_id, version_number=1, bundle_name="bench")
        stored = SerializedDagModel(LazyDeserializedDAG.from_dag(dag))
        stored.dag_version = version
        session.add_all([version, stored])
    session.flush()


def child(size: int, shape: str) -> dict[str, float]:
    """Run `measured` in a process of its own."""
    with tempfile.TemporaryDirectory() as home:
        env = {
            **os.environ,
            "AIRFLOW_HOME": home,
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            # Read connections as the API server does.
            "_AIRFLOW_PROCESS_CONTEXT": "server",
        }
        done = subprocess.run(
            [sys.executable, __file__, str(size), shape],
            env=env,
            stdout=subprocess.PIPE,
            timeout=LONGEST,
            check=True,
        )
    return json.loads(done.stdout.splitlines()[-1])


def main(quick: bool) -> None:  # noqa: FBT001 - the option
    """Print milliseconds by the number of chains."""
    print(
        "| chains | of | match a push ms | index: first time ms | index: refresh ms |\n|---:|---|---:|---:|---:|"
    )
    rounds = 1 if quick else 3
    for size in SIZES[:2] if quick else SIZES:
        for shape in SHAPES:
            found = [child(size, shape) for _ in range(rounds)]
            match, first, again = (
                statistics.median(one[what] for one in found) for what in ("match", "first", "again")
            )
            print(f"| {size} | {shape} | {match:.3f} | {first:.1f} | {again:.1f} |", flush=True)


if __name__ == "__main__":
    print(json.dumps(measured(int(sys.argv[1]), sys.argv[2])))
