"""An installation for the tests of the doctor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from delivery_chain.doctor import machine
from support.airflow_database import SQLITE, airflow_database
from support.doctor_chain import Doctor
from support.oci_memory import memory_registry
from support.oci_registry import docker_registry
from support.webhook_store import Stored

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from delivery_chain.core.names.registry import Registry


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    with airflow_database(SQLITE, tmp_path_factory.mktemp("airflow")) as url:
        yield Stored(SQLITE, url)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with docker_registry(tmp_path_factory.mktemp("registry"), htpasswd=True) as registry:
        yield registry


@pytest.fixture
def doctor(
    tmp_path: Path, stored: Stored, home: Registry, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Doctor]:
    """With everything in place, but without trial builds and scans, which other tests cover."""
    stored.clear()
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
    for option, value in {
        "SPECS_FOLDER": tmp_path / "chain_specs",
        "WORK_FOLDER": tmp_path / "work",
        "TRIVY_CACHE_DIR": tmp_path / "trivy",
        "GIT_TRANSPORTS": "file",
    }.items():
        monkeypatch.setenv(f"AIRFLOW__DELIVERY_CHAIN__{option}", str(value))
    monkeypatch.setattr(machine, "_isolation", lambda _: [])
    with memory_registry() as eu:
        made = Doctor(tmp_path, stored, home, eu)
        made.everything()
        yield made
