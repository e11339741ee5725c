"""Read an installation's settings for Trivy: section `[delivery_chain]`, options `trivy_*`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self

from delivery_chain.scanners.interface import Options
from delivery_chain.scanners.trivy.database_kinds import JAVA

if TYPE_CHECKING:
    from delivery_chain.core.section import Section
    from delivery_chain.scanners.trivy.database_kinds import DatabaseKind

WHEELS = ("refuse", "allow")
LONGEST_AGE = 24 * 365
"""A year, in hours."""


class TrivyOptions(Options):
    """The options that are part of a job."""

    db_repository: str = ""
    """`host[:port]/name[:tag]` of a mirror of the vulnerability database; empty for Trivy's own default."""
    db_max_age_hours: int = 72
    """A vulnerability database older than this is stale: no image passes with it unless the spec accepts that."""
    java_db_repository: str = ""
    """Like `db_repository`, for the database of Java archives."""
    java_db_max_age_hours: int = 336
    """A Java database older than this is stale; it is built weekly."""
    wheel: bool = False
    """Whether to fall back to the Trivy of a PyPI wheel, see `command.find_trivy`."""

    @classmethod
    def read(cls, section: Section) -> Self:
        """Read the options, see `Options.read`."""
        return cls(
            db_repository=section.image("trivy_db_repository"),
            db_max_age_hours=section.whole("trivy_db_max_age_hours", 72, 1, LONGEST_AGE),
            java_db_repository=section.image("trivy_java_db_repository"),
            java_db_max_age_hours=section.whole("trivy_java_db_max_age_hours", 336, 1, LONGEST_AGE),
            wheel=section.one("trivy_wheel", "refuse", WHEELS) == "allow",
        )

    def repository(self, kind: DatabaseKind) -> str:
        """Return the mirror of one kind of database, or an empty string."""
        return self.java_db_repository if kind is JAVA else self.db_repository

    def max_age(self, kind: DatabaseKind) -> timedelta:
        """Return the maximum age of one kind of database."""
        return timedelta(hours=self.java_db_max_age_hours if kind is JAVA else self.db_max_age_hours)


def cache_folder(section: Section) -> Path:
    """Return the folder of Trivy's databases on this machine, shared by all its tasks."""
    return section.folder("trivy_cache_dir", lambda: Path.home() / ".cache" / "delivery-chain" / "trivy")
