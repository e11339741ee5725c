"""Measures the time that Airflow adds to a chain: a warm run in the sandbox, against the same work in a script.

    .venv/bin/python benchmarks/overhead.py [ROUNDS]

Each round pushes a release and measures the run's duration, as recorded by Airflow, and the time from the push to the
end. Then it does the same work (list refs, checkout, build, scan, two copies, tags, one webhook) in this process. The
first round warms both up and is not counted. Everything is in a temporary folder, and is stopped at the end.
"""

from __future__ import annotations

import io
import statistics
import sys
import tempfile
import time
import urllib.request
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from delivery_chain.builders.interface import BuildWork
from delivery_chain.builders.table import BUILDERS
from delivery_chain.core.names.platform import Platform
from delivery_chain.core.section import Section
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.copy.api import copy_image, put_tag
from delivery_chain.oci.referrers import attach
from delivery_chain.sandbox import source, stack
from delivery_chain.sandbox.airflow_parts import ADMIN
from delivery_chain.sandbox.api import AirflowApi
from delivery_chain.sandbox.console import Console
from delivery_chain.sandbox.layout import Layout, load_secrets
from delivery_chain.scanners.interface import ImageRef, Workplace
from delivery_chain.scanners.trivy.options import TrivyOptions
from delivery_chain.scanners.trivy.scanner import TrivyScanner
from delivery_chain.tools.git.checkout import checkout
from delivery_chain.tools.git.refs import list_refs
from delivery_chain.tools.git.source import GitSource, Transport

if TYPE_CHECKING:
    from delivery_chain.sandbox.source import Push

ROOT = Path(__file__).parents[1]
DEADLINE = 120.0
"""Timeout of one run, in seconds; a run takes less than ten."""


def run_seconds(api: AirflowApi, push: Push) -> tuple[float, float]:
    """Return the duration of the push's run, as recorded by Airflow, and the time from the push to the run's end."""
    began = time.time()
    while time.time() - began < DEADLINE:
        for run in api.runs("shop-api"):
            if (run.get("conf") or {}).get("commit") == push.commit and run["state"] in {"success", "failed"}:
                if run["state"] != "success":
                    raise SystemExit(f"run {run['dag_run_id']} failed: {run['note']}")
                start, end = (
                    datetime.fromisoformat(run[key]).timestamp() for key in ("start_date", "end_date")
                )
                return end - start, end - began
        time.sleep(0.2)
    raise SystemExit(f"no run for {push.name} within {DEADLINE:g} s")


def straight(running: stack.Stack, layout: Layout, push: Push, receiver: str) -> float:
    """Measure the seconds that the same work takes without Airflow."""
    registries = running.registries()
    home, *regions = registries.values()
    git = GitSource(f"file://{layout.git}/shop/api.git", frozenset({Transport.FILE}))
    ref = f"refs/tags/{push.name}"
    cache, log = str(layout.root / "trivy"), [].append
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tree = folder / "tree"
        tree.mkdir()
        began = time.monotonic()
        until = began + DEADLINE
        commit = list_refs(git, deadline=until)[ref]
        checkout(git, ref=ref, commit=commit, into=tree, deadline=until)
        target = f"{home.host}/straight/api:build"
        args = {"REVISION": "release"}
        work = BuildWork(tree, tree / "Dockerfile", Platform.LINUX_AMD64, target, home, folder, args=args)
        built = BUILDERS.load("buildah")().build(work, seconds=DEADLINE, log=lambda _: None)
        options = TrivyOptions(db_repository=f"{home.host}/aquasecurity/trivy-db:2", wheel=True)
        workplace = Workplace(folder, Section(lambda _, name: cache if name == "trivy_cache_dir" else None))
        scanner = TrivyScanner()
        ready = scanner.prepare(options, workplace, seconds=DEADLINE, log=log)
        scanned = ImageRef(home, "straight/api", built.digest)
        output = scanner.scan(scanned, "linux/amd64", ready, seconds=DEADLINE, log=log)
        with RegistryClient(home) as client:
            image = client.get_manifest("straight/api", built.digest).descriptor()
            attach(client, "straight/api", image, output.media_type, output.raw, output.media_type)
            put_tag(client, "straight/api", push.name, built.digest)
            for region in regions:
                with RegistryClient(region) as there:
                    copy_image(client, "straight/api", built.digest, there, "straight/api")
                    put_tag(there, "straight/api", push.name, built.digest)
        post = urllib.request.Request(receiver, data=b"{}", method="POST")  # noqa: S310 - our own receiver
        with urllib.request.urlopen(post, timeout=10):  # noqa: S310
            pass
        return time.monotonic() - began


def main(rounds: int) -> None:
    """Print medians and the difference as a table."""
    with tempfile.TemporaryDirectory() as name:
        layout = Layout(Path(name))
        options = stack.Options(specs=str(ROOT / "chain_specs"), dags=str(ROOT / "dags"))
        try:
            running = stack.up(layout, options, Console(io.StringIO()))
            receiver = f"http://127.0.0.1:{running.state.ports['receiver']}/hooks/straight"
            measured = []
            with AirflowApi(running.ui, ADMIN, load_secrets(layout)["admin"]) as api:
                for number in range(rounds + 1):
                    push = source.push(layout, "api", tag=f"v1.{number}.0")
                    measured.append((*run_seconds(api, push), straight(running, layout, push, receiver)))
        finally:
            stack.down(layout, Console(io.StringIO()), purge=True)
    chain, whole, script = (statistics.median(column) for column in zip(*measured[1:], strict=True))
    print("| what | median of", rounds, "|\n|---|---|")
    print(f"| run in Airflow | {chain:.2f} s |\n| push to end of run | {whole:.2f} s |")
    print(
        f"| same tools from a script | {script:.2f} s |\n| **overhead of the run** | **{chain - script:.2f} s** |"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
