"""Backfill: one command replicates existing images to a region that lacks them; they are judged, but not announced."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from delivery_chain.oci.client import RegistryClient
from delivery_chain.sandbox.receiver import read_deliveries

if TYPE_CHECKING:
    from support.chain_runs import Ended, Sandbox

pytestmark = pytest.mark.e2e
IMAGE, TAG, REGION = "shop/api", "v1.0.0", "eu-central-1"
SPEC = Path(__file__).parents[2] / "chain_specs" / "shop-api.yaml"


def replicate(sandbox: Sandbox, *arguments: str) -> str:
    """Run the command in a shell that has sourced the sandbox's environment file."""
    script = 'set -a; . "$0"; exec "$@"'
    command = [
        str(Path(sys.executable).parent / "delivery-chain"),
        "replicate",
        str(SPEC),
        "--existing",
        *arguments,
    ]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    done = subprocess.run(
        ["sh", "-c", script, str(sandbox.layout.airflow_env), *command],
        env=clean, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_region_gets_what_it_lacks(sandbox: Sandbox, clean: Ended) -> None:
    """The image returns under the same digest, in a run of its own that fires no trigger."""
    digest = clean.xcom("publish")["digest"]
    told = len(read_deliveries(sandbox.layout.deliveries))
    with RegistryClient(sandbox.registries[REGION]) as client:
        client.delete_tag(IMAGE, TAG)
    line = f"{IMAGE}:{TAG}  {digest[:19]}  to-frankfurt\n"
    assert replicate(sandbox, "--tags", r"v1\.0\.0", "--dry-run") == line + "images that a region lacks: 1\n"
    said = replicate(sandbox, "--tags", r"v1\.0\.0")
    assert re.fullmatch(
        re.escape(line) + r"images that a region lacks: 1; run \S+ of delivery-chain-existing sends them\n",
        said,
    )
    run = sandbox._once("shop-api", "existing", lambda run: run["dag_run_id"].startswith("existing__api__"))
    assert (run.state, run.states["gate"], run.states["distribute"]) == (
        "success",
        ("success",),
        ("skipped",),
    )
    assert sandbox.digests(IMAGE, TAG) == dict.fromkeys(sandbox.registries, digest)
    assert (
        len([one for one in read_deliveries(sandbox.layout.deliveries)[told:] if "/prod" in one["path"]]) == 0
    )


def test_nothing_lacking_starts_nothing(sandbox: Sandbox, clean: Ended) -> None:
    """If every region has every image, the command says so."""
    assert (
        replicate(sandbox, "--rule", "to-singapore", "--tags", r"v1\.0\.0")
        == "images that a region lacks: 0\n"
    )
