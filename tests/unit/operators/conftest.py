"""Registries, a target and a source in this process, for steps that are run without an Airflow."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from delivery_chain.oci.copy.limits import SHARED
from delivery_chain.oci.copy.worker_limits import WorkerLimits
from delivery_chain.operators import replicate
from support.distributions import SECRET
from support.match_source import Source, around
from support.oci_memory import MemoryRegistry, memory_registry
from support.webhook_target import Target, webhook_target

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def connect(monkeypatch: pytest.MonkeyPatch, conn_id: str, held: MemoryRegistry, region: str) -> None:
    fields = {
        "conn_type": "oci_registry",
        "host": held.registry.host,
        "extra": {"plain_http": True, "region": region},
    }
    monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Copies wait no time worth the name before they try again, and share limits with nobody."""
    monkeypatch.setattr(SHARED, "first_wait", 0.0001)
    monkeypatch.setattr(replicate, "_limits", lambda _: WorkerLimits(tmp_path / "limits", first_wait=0.0001))


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryRegistry]:
    """The home registry, behind the connection `home`."""
    with memory_registry(deletes_tags=True) as held:
        connect(monkeypatch, "home", held, "cn-hangzhou")
        yield held


@pytest.fixture
def west(monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryRegistry]:
    """A region, behind the connection `west`."""
    with memory_registry(deletes_tags=True) as held:
        connect(monkeypatch, "west", held, "us-west")
        yield held


@pytest.fixture
def east(monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryRegistry]:
    """Another region, behind the connection `east`."""
    with memory_registry(deletes_tags=True) as held:
        connect(monkeypatch, "east", held, "us-east")
        yield held


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    """What the connection `prod_hook` leads to, with a secret in its query and one to sign with."""
    with webhook_target() as running:
        fields = {
            "conn_type": "delivery_webhook",
            "host": running.url,
            "password": SECRET,
            "extra": {"secret_query": "token=hunter2-token", "timeout_seconds": 2},
        }
        monkeypatch.setenv("AIRFLOW_CONN_PROD_HOOK", json.dumps(fields))
        yield running


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Source:
    """A source that `watch` and `match` poll."""
    return around(monkeypatch, Source())
