"""The two databases of Trivy: of vulnerabilities, and of Java archives; they are kept and fetched in one way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class DatabaseKind:
    """What differs between Trivy's databases."""

    name: str
    """For people."""
    folder: str
    """Where Trivy looks for it, below its cache folder."""
    file: str
    """The database itself, beside `metadata.json`."""
    schema: int
    """Schema version that is known; the artifact's tag where nobody names another."""
    home: str
    """Folder below ours that it is kept in; empty for ours itself."""
    download: str
    """Trivy's option to fetch it and do nothing else."""
    repository: str
    """Trivy's option for where to fetch it."""
    defaults: str
    """Where Trivy 0.76 looks by itself, in that order."""
    setting: str
    """Our option for a mirror of it."""
    limit: str
    """Our option for how old it may be."""
    seconds: float
    """How long fetching it may take."""


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
"""80 MB to fetch, built every six hours."""
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
"""Names the archives that do not name themselves; larger than the other one, built every week."""
