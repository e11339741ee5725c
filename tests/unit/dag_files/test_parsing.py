"""The modules that Dag files import, and the Dags that they build for a task."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

LIGHT = """
import sys, runpy
import airflow.sdk
from airflow.providers.standard.operators.branch import BaseBranchOperator
from airflow.sdk import BaseHook
BaseHook.get_connection = None  # a call would raise
before = set(sys.modules)
found = {}
for file in sys.argv[1:]:
    found |= runpy.run_path(file)
new = set(sys.modules) - before
print(sorted(name for name, value in found.items() if type(value).__name__ == "DAG"))
print(sorted(name for name in new if name.startswith(HEAVY)))
"""
HEAVY = (
    "requests",
    "urllib3",
    "kubernetes",
    "docker",
    "standardwebhooks",
    "delivery_chain.oci",
    "delivery_chain.tools",
    "delivery_chain.hooks",
    "delivery_chain.triggers",
    "delivery_chain.web",
    "airflow.providers.git",
    "airflow.providers.cncf",
    "airflow.providers.docker",
)


def parse(*files: str, wanted: str = "") -> list[list[str]]:
    """What a fresh process makes of Dag files: names of Dags, and heavy modules that it imported for them."""
    env = os.environ | {
        "PYTHONPATH": str(ROOT / "plugins"),
        "AIRFLOW__DELIVERY_CHAIN__SPECS_FOLDER": str(ROOT / "chain_specs"),
    }
    if wanted:
        env["_AIRFLOW_PARSING_CONTEXT_DAG_ID"] = wanted
    # Airflow's own operator that starts runs imports its models.
    heavy = HEAVY if "delivery_chain_sources.py" in files else (*HEAVY, "airflow.models")
    code = LIGHT.replace("HEAVY", repr(heavy))
    paths = [str(ROOT / "dags" / file) for file in files]
    done = subprocess.run(
        [sys.executable, "-c", code, *paths], env=env, capture_output=True, text=True, check=True, timeout=120
    )
    return [json.loads(line.replace("'", '"')) for line in done.stdout.splitlines()[-2:]]


def test_a_parse_is_light() -> None:
    """No tool, HTTP client or provider is imported for a Dag, and no connection is read."""
    found = parse("delivery_chains.py", "delivery_chain_sources.py", "delivery_chain_errors.py")
    assert (len(found[0]), found[1]) == (8, [])
    assert {"shop-api", "shop-web", "base-images", "maintenance", "existing"} <= set(found[0])


@pytest.mark.parametrize(
    ("file", "wanted", "made"),
    [
        ("delivery_chains.py", "shop-web", ["shop-web"]),
        ("delivery_chains.py", "delivery-chain-maintenance", ["maintenance"]),
        ("delivery_chain_sources.py", "delivery-chain-existing", ["existing"]),
    ],
)
def test_a_task_makes_its_own_dag_alone(file: str, wanted: str, made: list[str]) -> None:
    """Its start costs the same in an installation of any size."""
    assert parse(file, wanted=wanted) == [made, []]
