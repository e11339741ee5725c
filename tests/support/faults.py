"""A chain for fault injection: its spec, its source, and the pushes that fail."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from support.branches import git, push_branches
from support.chain_runs import POLL_SECONDS, RUN_SECONDS

if TYPE_CHECKING:
    from concurrent.futures import Future
    from pathlib import Path

    from delivery_chain.sandbox.api import AirflowApi
    from delivery_chain.sandbox.layout import Layout

CHAIN = "faults"
IMAGE = "faults/app"
SPEC = """\
version: 1
name: faults
scope: {instance: cn-hangzhou, namespace: faults, repositories: [app]}
sources: {app: {connection: git_shop, url: faults/app.git}}
build: {rules: [{name: any, branch: '(?<branch>.+)', tags: [{tag: '${branch}'}]}]}
scan: {block: {severity: high}}
replicate:
  - {name: near, to: ap-southeast-1}
  - {name: far, to: eu-central-1, override: false}
distribute:
  - {name: tell-near, url_connection: faults_redeploy, after: [near]}
  - {name: tell-far, url_connection: faults_redeploy, after: [far]}
"""
FROM = "FROM scratch\nCOPY busybox /bin/busybox\n"
DOCKERFILES = {
    "broken": FROM + 'RUN ["/bin/busybox", "sh", "-c", "echo this is the cause; exit 3"]\n',
    "killed": FROM + 'RUN ["/bin/busybox", "sleep", "5"]\n',
    "taken": FROM + 'LABEL mine="yes"\n',
    "bad+tag": FROM,
}
"""Dockerfiles by branch."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """The pushes to the faults chain."""

    commits: dict[str, str]
    """Commits by branch."""
    killed: Future[list[psutil.Process]]
    """Processes that the build of the branch `killed` had started when it was killed."""


def repository(layout: Layout) -> Path:
    """Path of the chain's source."""
    return layout.git / "faults" / "app.git"


def create_source(layout: Layout) -> None:
    """Create the source, empty."""
    git(layout, "init", "--quiet", "--bare", str(repository(layout)))


def push(layout: Layout, folder: Path) -> dict[str, str]:
    """Push all branches at once; return their commits."""
    return push_branches(layout, folder, repository(layout), DOCKERFILES)


def kill_build(api: AirflowApi, commit: str) -> list[psutil.Process]:
    """Kill the process that builds a commit once the Dockerfile's own command runs; return its child processes."""
    deadline = time.monotonic() + RUN_SECONDS
    while time.monotonic() < deadline:
        for process in _builders(api, commit):
            # Processes may exit while they are being inspected; then try again.
            with suppress(psutil.NoSuchProcess):
                children = process.children(recursive=True)
                if any("sleep" in child.cmdline() for child in children):
                    process.kill()
                    return list(children)
        time.sleep(POLL_SECONDS)
    raise AssertionError("the build did not come to its RUN")


def _builders(api: AirflowApi, commit: str) -> list[psutil.Process]:
    runs = [run["dag_run_id"] for run in api.runs(CHAIN) if (run["conf"] or {}).get("commit") == commit]
    instances = [one for run in runs for one in api.task_instances(CHAIN, run) if one["task_id"] == "build"]
    pids = [one["pid"] for one in instances if one["state"] == "running" and one["pid"]]
    return [process for process in psutil.process_iter() if process.pid in pids]
