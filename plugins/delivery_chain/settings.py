"""Settings of this installation: section `[delivery_chain]` of Airflow's configuration, read on demand.

What one scan engine alone needs is not here: each reads its own options, see `delivery_chain.scanners.interface`.

`AIRFLOW__DELIVERY_CHAIN__GIT_POLL_SECONDS=10` and `airflow.cfg` both work, as for any option of Airflow.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from delivery_chain.core.section import Section

if TYPE_CHECKING:
    from collections.abc import Callable

GIT_TRANSPORTS = ("https", "ssh", "file", "http")
"""Values allowed in `git_transports`; the same names as `delivery_chain.tools.git.source.Transport`."""
BUILD_ISOLATIONS = ("auto", "container", "namespaces", "chroot")
BUILD_NETWORKS = ("auto", "private", "host", "none")
LONGEST_POLL = 3600.0
"""Longest poll interval of a git source or a registry's tags, in seconds."""
LONGEST_AGE = 24 * 365
"""Hours: a year."""


def airflow_option(section: str, option: str) -> str | None:
    """Return an option from Airflow's configuration and environment, None if not set."""
    from airflow.sdk.configuration import conf  # noqa: PLC0415 - slow, and not needed to import this module

    found: str | None = conf.get(section, option, fallback=None)
    return found


@dataclass(frozen=True, slots=True)
class Settings:
    """Administrator's settings for all chains. Holds no secret."""

    specs_folder: Path
    """Folder of the chain specs; `chain_specs` beside the Dags folder by default."""
    work_folder: Path
    """A worker's folder for checkouts and builds while a task runs; on a local disk."""
    git_transports: frozenset[str]
    """Transports for git sources: any of https, ssh, file, http."""
    git_poll_seconds: float
    """Poll interval of a git source."""
    image_poll_seconds: float
    """Poll interval of the image tags of a registry."""
    build_isolation: str
    """auto, container, namespaces or chroot; see docs/build-isolation.md."""
    build_network: str
    """auto, private, host or none: network that RUN steps may connect to."""
    staging_keep_hours: int
    """Minimum age of staging tags that the maintenance Dag may remove."""
    registry_requests: int
    """Maximum number of concurrent requests of one worker to one registry, across all its replications."""
    registry_megabytes_per_second: float
    """Maximum megabytes per second that one worker sends to or receives from one registry; 0 for no limit."""
    replicate_pool: str
    """Airflow pool in which replications take a slot; limits them across all workers."""

    @classmethod
    def load(cls) -> Settings:
        """Read the settings from Airflow's configuration and environment.

        Raises:
            ConfigurationError: An option has an invalid value; names both.
        """
        return cls.read(airflow_option)

    @classmethod
    def read(cls, get: Callable[[str, str], str | None]) -> Settings:
        """Read the settings from any source of options.

        Args:
            get: Maps section and option to its value; None or an empty string for the default.

        Raises:
            ConfigurationError: An option has an invalid value; names both.
        """
        options = Section(get)
        return cls(
            specs_folder=options.folder("specs_folder", lambda: _beside_dags(get)),
            work_folder=options.folder("work_folder", _default_work_folder),
            git_transports=options.several("git_transports", "https,ssh", GIT_TRANSPORTS),
            git_poll_seconds=options.number("git_poll_seconds", 30.0, 1.0, LONGEST_POLL),
            image_poll_seconds=options.number("image_poll_seconds", 60.0, 5.0, LONGEST_POLL),
            build_isolation=options.one("build_isolation", "auto", BUILD_ISOLATIONS),
            build_network=options.one("build_network", "auto", BUILD_NETWORKS),
            staging_keep_hours=options.whole("staging_keep_hours", 24, 1, LONGEST_AGE),
            registry_requests=options.whole("registry_requests", 8, 1, 256),
            registry_megabytes_per_second=options.number("registry_megabytes_per_second", 0.0, 0.0, 1e6),
            replicate_pool=options.text("replicate_pool") or "default_pool",
        )


def _beside_dags(get: Callable[[str, str], str | None]) -> Path:
    dags = get("core", "dags_folder")
    home = Path(os.environ.get("AIRFLOW_HOME") or Path.home() / "airflow")
    return Path(dags).expanduser().absolute().parent / "chain_specs" if dags else home / "chain_specs"


def _default_work_folder() -> Path:
    return Path(tempfile.gettempdir()) / f"delivery-chain-{os.getuid()}"
