"""Webhooks on a real Airflow: the README's section about them, verbatim, and pushes that are reported in two ways."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from delivery_chain.core.events.watch_dags import source_dag_id
from delivery_chain.core.spec.model import Source
from delivery_chain.sandbox import source
from delivery_chain.sandbox.airflow_parts import ADMIN
from support.chain_runs import POLL_SECONDS, RUN_SECONDS

if TYPE_CHECKING:
    from delivery_chain.sandbox.source import Push
    from support.chain_runs import Ended, Sandbox

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Webhooks")[2].partition("\n## ")[0]
COMMANDS = [
    line.removeprefix("$ ")
    for block in re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("$ ")
]
WEB = source_dag_id(Source(connection="git_shop", url="shop/web.git"))


def follow(sandbox: Sandbox, folder: Path) -> str:
    """Follow the README in one shell; return all output."""
    places = {
        "https://airflow.example.com": sandbox.api.address,
        "/etc/delivery-chain-webhook.secret": str(folder / "webhook.secret"),
        "/srv/git/shop/api.git": str(source.bare(sandbox.layout, "web")),
    }
    script = [_real(command, places, folder) for command in COMMANDS]
    (folder / "typed").write_text(f"{ADMIN}\n{sandbox.secrets['admin']}\n")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {"PATH": path, "HOME": str(folder)} | {
        name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(script)],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def _real(command: str, places: dict[str, str], folder: Path) -> str:
    """Fill this machine's paths into a command, and what a user would type or paste."""
    for shown, real in places.items():
        command = command.replace(shown, shlex.quote(real))
    if "AIRFLOW_API_PASSWORD" in command:
        return f"{{ {command}; }} < {shlex.quote(str(folder / 'typed'))}"
    said = shlex.quote(str(folder / "said"))
    if "delivery-chain webhook" in command:
        return f"{command} | tee {said}"
    return (
        f"sed -n 's/^secret *//p' {said} | {command.partition('#')[0]}"
        if "/dev/stdin" in command
        else command
    )


def senders(sandbox: Sandbox, dag_id: str, push: Push) -> list[str]:
    """The senders of a push's runs."""
    found = sandbox.api.runs(dag_id)
    return [run["conf"].get("sender") for run in found if run["conf"].get("commit") == push.commit]


def seen(sandbox: Sandbox, dag_id: str, push: Push) -> None:
    """Wait until the sensor has seen a push, too."""
    deadline = time.monotonic() + RUN_SECONDS
    while push.commit not in json.loads(sandbox.api.variable(dag_id) or "{}").get("refs", {}).values():
        assert time.monotonic() < deadline, f"{dag_id} did not see {push}"
        time.sleep(POLL_SECONDS)


def test_the_readme(sandbox: Sandbox, branch: Ended, tmp_path: Path) -> None:
    """Its commands connect a bare repository: the run exists when the push returns, and stays the only one."""
    del branch
    said = follow(sandbox, tmp_path)
    assert re.findall(r"^address +(\S+)$", said, re.MULTILINE) == [
        f"{sandbox.api.address}/delivery-chain/webhooks/{name}" for name in ("github_hooks", "shop_hooks")
    ]
    pushed = source.push(sandbox.layout, "web")
    assert senders(sandbox, "shop-web", pushed) == ["webhook shop_hooks"]
    seen(sandbox, WEB, pushed)
    assert sandbox.of_push("shop-web", pushed).state == "success"
    assert senders(sandbox, "shop-web", pushed) == ["webhook shop_hooks"]


def test_a_push_is_told_and_seen_and_run_once(sandbox: Sandbox, clean: Ended) -> None:
    """The sandbox's own hook reported it first; the sensor did not start a second run."""
    assert clean.conf["sender"] == "webhook git_hooks"
    of_commit = [
        run for run in sandbox.api.runs("shop-api") if run["conf"].get("commit") == clean.conf["commit"]
    ]
    assert [run["conf"]["sender"] for run in of_commit if run["dag_run_id"].startswith("tag__")] == [
        "webhook git_hooks"
    ]


def test_what_the_chain_publishes_starts_nothing(sandbox: Sandbox, clean: Ended) -> None:
    """The registry reports every tag that `publish` moved; they are recognized as the chain's own."""
    digest = clean.xcom("assemble")["digest"]
    query = {"event": "delivery-chain push", "dag_id": "shop-api", "limit": 100}
    told: list[dict[str, Any]] = [
        json.loads(row["extra"]) for row in sandbox.api.call("GET", "/eventLogs", query=query)["event_logs"]
    ]
    own = {entry["ref"]: entry.get("why") for entry in told if entry["commit"] == digest}
    assert own == dict.fromkeys(("shop/api:v1.0.0", "shop/api:latest"), "the chain built this image itself")


def test_an_image_that_others_push_is_told(image: Ended) -> None:
    """The registry's notification started its run; the watch of its tags did not start a second one."""
    assert (image.conf["sender"], image.conf["kind"]) == ("webhook registry_hooks", "image_push")


def test_no_secret_is_in_the_log(sandbox: Sandbox, clean: Ended, image: Ended) -> None:
    """Neither a sender's secret, nor one from an address."""
    del clean, image
    log = sandbox.layout.log("airflow-api-server").read_text("utf-8", "replace")
    assert [name for name in ("git_hooks", "registry_hooks") if sandbox.secrets[name] in log] == []
