"""Describe Trivy's two databases, of vulnerabilities and of Java archives; both are stored and fetched in one way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class DatabaseKind:
    """The differences between Trivy's databases."""

    name: str
    """Display name."""
    folder: str
    """Folder in which Trivy expects it, below its cache folder."""
    file: str
    """The database itself, beside `metadata.json`."""
    schema: int
    """Supported schema version; also the artifact's default tag."""
    home: str
    """Subfolder of the worker's cache folder that stores it; empty for the cache folder itself."""
    download: str
    """Trivy's option that only downloads it."""
    repository: str
    """Trivy's option for its repository."""
    defaults: str
    """Default repositories of Trivy 0.76, in order."""
    setting: str
    """Option in `[delivery_chain]` for a mirror of it."""
    limit: str
    """Option in `[delivery_chain]` for its maximum age."""
    seconds: float
    """Time limit of a download."""


VULNERABILITIES: Final = DatabaseKind(
    name="vulnerability database",
    folder="db",
    file="trivy.db",
    schema=2,
    home="",
    download="--download-db-only",
    repository="--db-repository",
    defaults="mirror.gcr.io/aquasec/trivy-db:2 or ghcr.io/aquasecurity/trivy-db:2",
    setting="trivy_db_repository",
    limit="trivy_db_max_age_hours",
    seconds=300.0,
)
"""80 MB download, built every six hours."""
JAVA: Final = DatabaseKind(
    name="Java database",
    folder="java-db",
    file="trivy-java.db",
    schema=1,
    home="java",
    download="--download-java-db-only",
    repository="--java-db-repository",
    defaults="mirror.gcr.io/aquasec/trivy-java-db:1 or ghcr.io/aquasecurity/trivy-java-db:1",
    setting="trivy_java_db_repository",
    limit="trivy_java_db_max_age_hours",
    seconds=1800.0,
)
"""Identifies archives that lack their own metadata; larger than the other database, built weekly."""
