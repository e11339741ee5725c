"""A bench for the real Trivy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from delivery_chain.oci.client import RegistryClient
from delivery_chain.sandbox import vulndb
from support.oci_registry import docker_registry
from support.trivy_bench import BUILT, Bench

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    folder = tmp_path / "registry"
    folder.mkdir()
    with docker_registry(folder) as registry, RegistryClient(registry) as client:
        vulndb.publish_sample_database(client, now=BUILT)
        vulndb.publish_sample_java_database(client, now=BUILT)
        yield Bench(client, tmp_path / "cache")
