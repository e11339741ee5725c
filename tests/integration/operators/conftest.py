"""Real registries behind Airflow connections, with and without deletes, for steps that run without Airflow."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from delivery_chain.oci.client import RegistryClient
from support.oci_registry import docker_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from delivery_chain.core.names.registry import Registry


@pytest.fixture(scope="session")
def registries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[bool, Registry]]:
    """One with deletes enabled, and one with docker-registry's default; each test uses its own repositories."""
    folders = {deletes: tmp_path_factory.mktemp(f"deletes-{deletes}".lower()) for deletes in (True, False)}
    storage = {"filesystem": {"rootdirectory": str(folders[False] / "data")}}
    with docker_registry(folders[True]) as on, docker_registry(folders[False], storage=storage) as off:
        yield {True: on, False: off}


@pytest.fixture
def home(
    request: pytest.FixtureRequest, registries: dict[bool, Registry], monkeypatch: pytest.MonkeyPatch
) -> Iterator[RegistryClient]:
    """A client of the home registry; the test's parameter `deletes` selects which of the two it is."""
    registry = registries[request.getfixturevalue("deletes")]
    fields = {"conn_type": "oci_registry", "host": registry.host, "extra": {"plain_http": True}}
    monkeypatch.setenv("AIRFLOW_CONN_HOME", json.dumps(fields))
    with RegistryClient(registry) as client:
        yield client
