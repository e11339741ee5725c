"""A chain for faults: its spec, its source, and the pushes that go wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from delivery_chain.tools.process import base_env
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
"""By branch."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """The pushes to the chain of faults."""

    commits: dict[str, str]
    """By branch."""
    killed: Future[list[psutil.Process]]
    """What the build of the branch `killed` had started when it was killed."""


def repository(layout: Layout) -> Path:
    """Where the chain's source is."""
    return layout.git / "faults" / "app.git"


def create_source(layout: Layout) -> None:
    """Make the source, empty."""
    git(layout, "init", "--quiet", "--bare", str(repository(layout)))


def push(layout: Layout, folder: Path) -> dict[str, str]:
    """Push all branches at once. Returns their commits."""
    git(layout, "init", "--quiet", str(folder))
    busybox = shutil.which("busybox")
    assert busybox
    shutil.copy(busybox, folder / "busybox")
    commits = {}
    for branch, dockerfile in DOCKERFILES.items():
        git(layout, "checkout", "--quiet", "--orphan", branch, cwd=folder)
        (folder / "Dockerfile").write_text(dockerfile, "ascii")
        git(layout, "add", "--all", cwd=folder)
        git(layout, "commit", "--quiet", f"--message={branch}", cwd=folder)
        commits[branch] = git(layout, "rev-parse", "HEAD", cwd=folder).strip()
    git(layout, "push", "--quiet", "--all", repository(layout).as_uri(), cwd=folder)
    return commits


def kill_build(api: AirflowApi, commit: str) -> list[psutil.Process]:
    """Kill the process that builds a commit once the Dockerfile's own command runs. Returns what it had started."""
    deadline = time.monotonic() + RUN_SECONDS
    while time.monotonic() < deadline:
        for process in _builders(api, commit):
            # Processes come and go while they are asked; then the next look tells.
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


def git(layout: Layout, *arguments: str, cwd: Path | None = None) -> str:
    """Run git as nobody in particular. Returns what it printed."""
    who = {
        f"GIT_{role}_{what}": "tester@example.com"
        for role in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    env = (
        base_env() | who | {"HOME": str(layout.root), "GIT_CONFIG_NOSYSTEM": "1", "PATH": os.environ["PATH"]}
    )
    done = subprocess.run(
        ["git", *arguments], cwd=cwd, env=env, check=True, capture_output=True, text=True, timeout=60
    )
    return done.stdout
