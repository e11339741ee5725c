"""A bench for each scan engine: the engine with its databases, for the contract that all engines keep."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from delivery_chain.sandbox import vulndb
from delivery_chain.scanners.interface import Options, Workplace
from delivery_chain.scanners.trivy.options import TrivyOptions
from support.sections import section

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from delivery_chain.oci.client import RegistryClient


@dataclass(frozen=True, slots=True)
class ScannerBench:
    """The parts of one engine that the contract needs to know."""

    options: Options
    """Options with which its databases count as fresh."""
    strict: Options
    """Options with which the same databases count as stale."""
    workplace: Workplace
    settings: Mapping[str, Any]
    """Options of `[delivery_chain]` that result in `options`."""


def trivy(client: RegistryClient, folder: Path) -> ScannerBench:
    """Trivy with the sample databases, five hours old, from the registry that holds the images."""
    built = datetime.now(UTC) - timedelta(hours=5)
    vulndb.publish_sample_database(client, now=built)
    vulndb.publish_sample_java_database(client, now=built)
    host = client.registry.host
    fresh = TrivyOptions(
        db_repository=f"{host}/aquasecurity/trivy-db:2",
        java_db_repository=f"{host}/aquasecurity/trivy-java-db:1",
        wheel=True,
    )
    return ScannerBench(
        options=fresh,
        strict=fresh.model_copy(update={"db_max_age_hours": 1}),
        workplace=Workplace(folder, section(trivy_cache_dir=folder.with_name("cache")), (client.registry,)),
        settings={
            "trivy_db_repository": fresh.db_repository,
            "trivy_java_db_repository": fresh.java_db_repository,
            "trivy_wheel": "allow",
        },
    )


BENCHES: dict[str, Callable[[RegistryClient, Path], ScannerBench]] = {"trivy": trivy}
"""Benches by engine name; the folder is the job's, in a parent with room for more."""
