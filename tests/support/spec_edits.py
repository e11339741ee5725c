"""Chains whose specs are edited while their runs build; each builds a branch of its own name from one source.

A build is held by stopping the command of its Dockerfile until Airflow shows that the edit has taken effect.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import psutil

from support.branches import git, push_branches
from support.chain_runs import POLL_SECONDS, RUN_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from delivery_chain.sandbox.api import AirflowApi
    from delivery_chain.sandbox.layout import Layout

RENAMED, NEW_NAME, INVALID, SHRUNK = "edit-name", "edit-new-name", "edit-typo", "edit-rules"
CHAINS = (RENAMED, INVALID, SHRUNK)
SOONER = {
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "10",
    "AIRFLOW__DAG_PROCESSOR__STALE_DAG_THRESHOLD": "15",
    "AIRFLOW__DAG_PROCESSOR__PARSING_CLEANUP_INTERVAL": "10",
}
"""Airflow's own intervals, shortened."""
DOCKERFILE = 'FROM scratch\nCOPY busybox /bin/busybox\nRUN ["/bin/busybox", "sleep", "{number}"]\n'
SPEC = """\
version: 1
name: {name}
scope: {{instance: cn-hangzhou, namespace: {name}, repositories: [app]}}
sources: {{app: {{connection: git_shop, url: edits/app.git}}}}
build: {{rules: [{{name: own, branch: {branch}, tags: [{{tag: '{branch}'}}]}}]}}
replicate: [{replicate}]
distribute: [{distribute}]
"""
NEAR, FAR = "{name: near, to: ap-southeast-1}", "{name: far, to: eu-central-1}"
FIRST = "{name: first, url_connection: faults_redeploy}"
SECOND = "{name: second, url_connection: faults_redeploy}"


def text(
    name: str, *, branch: str = "", regions: tuple[str, ...] = (NEAR, FAR), told: tuple[str, ...] = ()
) -> str:
    """A chain's spec."""
    return SPEC.format(
        name=name,
        branch=branch or name,
        replicate=", ".join(regions),
        distribute=", ".join(told or (FIRST, SECOND)),
    )


def prepare(layout: Layout, specs: Path) -> None:
    """Write the chains' specs, and create their source, empty."""
    for name in CHAINS:
        (specs / f"{name}.yaml").write_text(text(name), "ascii")
    git(layout, "init", "--quiet", "--bare", str(_repository(layout)))


def push(layout: Layout, folder: Path) -> dict[str, str]:
    """Push each chain's branch; return their commits."""
    files = {name: DOCKERFILE.format(number=_seconds(number)) for number, name in enumerate(CHAINS)}
    return push_branches(layout, folder, _repository(layout), files)


def hold_builds() -> list[psutil.Process]:
    """Stop the command of each chain's Dockerfile midway; `resume` continues them."""
    wanted = {_seconds(number) for number in range(len(CHAINS))}
    held: dict[str, psutil.Process] = {}

    def look() -> bool:
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                line = process.cmdline()
                if line[-2:-1] == ["sleep"] and line[-1] in wanted - set(held):
                    process.suspend()
                    held[line[-1]] = process
        return len(held) == len(wanted)

    wait_for(look, "the builds to come to their RUN")
    return list(held.values())


def wait_for(happened: Callable[[], Any], what: str) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + RUN_SECONDS
    while not happened():
        assert time.monotonic() < deadline, f"waited {RUN_SECONDS} s for {what}"
        time.sleep(POLL_SECONDS)


def dag(api: AirflowApi, name: str) -> dict[str, Any]:
    """A chain's Dag with its documentation; empty if Airflow has no such Dag."""
    listed = api.call("GET", "/dags", query={"dag_id_pattern": name})["dags"]
    if name not in [one["dag_id"] for one in listed]:
        return {}
    found: dict[str, Any] = api.call("GET", f"/dags/{name}/details")
    return found


def _seconds(number: int) -> str:
    # Distinguishable from each other and from other processes.
    return str(41 + number)


def _repository(layout: Layout) -> Path:
    return layout.git / "edits" / "app.git"
