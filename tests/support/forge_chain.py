"""A chain that builds pushes to a real forge, in a sandbox."""

from __future__ import annotations

import hashlib
import hmac
import json
import subprocess
import time
from typing import TYPE_CHECKING, Any

import requests

from delivery_chain.core.events.watch_dags import source_dag_id
from delivery_chain.core.spec.model import Source
from support.chain_runs import POLL_SECONDS
from support.forge import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable

    from delivery_chain.sandbox.api import AirflowApi
    from delivery_chain.sandbox.layout import Layout
    from support.forge import Forge

CHAIN = "forge"
HOOKS = "forge_hooks"
"""The connection of the forge's webhooks."""
SPEC = f"""\
version: 1
name: {CHAIN}
scope: {{instance: cn-hangzhou, namespace: forge, repositories: [app]}}
sources: {{app: {{connection: git_shop, url: {REPOSITORY}.git}}}}
build: {{rules: [{{name: release, tag: 'v(?<version>.+)', tags: [{{tag: '${{version}}'}}]}}]}}
scan: {{block: {{severity: critical}}}}
"""
WATCH = source_dag_id(Source(connection="git_shop", url=f"{REPOSITORY}.git"))
"""The Dag whose sensor watches the forge's repository."""
TAKEN_S = 60
"""Timeout from a push, or a change of a connection, until it takes effect; measured 1 to 10 s."""


def create_source(layout: Layout) -> None:
    """Create an empty repository at the place of the forge's."""
    empty = layout.root / "no-forge-yet.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(empty)], check=True, timeout=60)
    layout.git.mkdir(parents=True, exist_ok=True)
    (layout.git / f"{REPOSITORY}.git").symlink_to(empty)


def connect(layout: Layout, api: AirflowApi, forge: Forge) -> None:
    """Replace the sandbox's source by the forge's repository, and accept the forge's webhooks."""
    link = layout.git / "next.git"
    link.symlink_to(forge.folder / "repositories" / f"{REPOSITORY}.git")
    link.replace(layout.git / f"{REPOSITORY}.git")
    extra = json.dumps({"sender": "pagure", "speaks_for": "git_shop"})
    sender = {
        "connection_id": HOOKS,
        "conn_type": "webhook_sender",
        "password": forge.secret,
        "extra": extra,
    }
    assert api.call("POST", "/connections", body=sender)
    # The forge sent a webhook before the connection existed, and its absence is cached for a while.
    wait(lambda: _ping(webhook(api), forge.secret) == requests.codes.ok, "the receiver to know its sender")


def webhook(api: AirflowApi) -> str:
    """The URL that the forge sends webhooks to."""
    return f"{api.address}/delivery-chain/webhooks/{HOOKS}"


def told(api: AirflowApi) -> list[dict[str, Any]]:
    """Everything that the forge's webhooks reported about its repository, from Airflow's event log."""
    found = api.call(
        "GET", "/eventLogs", query={"dag_id": WATCH, "event": "delivery-chain push", "limit": 100}
    )
    return [json.loads(entry["extra"]) for entry in found["event_logs"]]


def pause(api: AirflowApi, *, paused: bool) -> None:
    """Make the sensor's polls fail for now, or succeed again."""
    assert api.call("PATCH", f"/dags/{WATCH}", body={"is_paused": paused})["is_paused"] is paused


def seen(api: AirflowApi) -> dict[str, str] | None:
    """Every ref with its commit, as in the sensor's cursor; None before its first poll."""
    text = api.variable(WATCH)
    refs: dict[str, str] | None = json.loads(text)["refs"] if text else None
    return refs


def wait(for_it: Callable[[], object], what: str) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + TAKEN_S
    while not for_it():
        assert time.monotonic() < deadline, f"waited {TAKEN_S} s for {what}"
        time.sleep(POLL_SECONDS)


def _ping(url: str, secret: str) -> int:
    """Test a webhook, as the button in Pagure's settings does, without Pagure."""
    body = json.dumps({"topic": "Test.notification", "msg": {}, "msg_id": "ping"}).encode()
    proof = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    answer = requests.post(url, data=body, headers={"X-Pagure-Signature-256": proof}, timeout=10)
    return answer.status_code
