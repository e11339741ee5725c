"""Represent scan results in one shape for every engine: facts only, no policy."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, StringConstraints, model_validator

from delivery_chain.core.gate.coverage import Coverage
from delivery_chain.core.value import Value

if TYPE_CHECKING:
    from collections.abc import Iterable


REPORT_TYPE = "application/vnd.delivery-chain.scan-report.v1+json"
"""Media type of a `ScanReport` as JSON, the blob that the gate reads."""
CREATED = "org.opencontainers.image.created"
"""Annotation of a report: the time at which its database was built."""


class Severity(StrEnum):
    """Severity of a finding, worst first. ACR EE has no critical: it counts as high there."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    UNKNOWN = "unknown"

    @property
    def rank(self) -> int:
        """0 for unknown to 4 for critical."""
        return 4 - list(Severity).index(self)

    def at_least(self, level: Severity) -> bool:
        """Whether this severity is `level` or worse."""
        return self.rank >= level.rank


class Witness(Value):
    """The engine that reported a finding, and its data; kept when reports are merged."""

    engine: str
    platform: str
    id: str
    severity: Severity
    fixed: str = ""
    database: datetime
    """Build time of the engine's database, UTC."""


class Finding(Value):
    """One vulnerability in one package: of one platform's image, or of all of them once reports are merged."""

    id: str
    """`CVE-…`, or the advisory's own id if it has no CVE."""
    aliases: tuple[str, ...] = ()
    """Its other ids, as the engine gives them: `GHSA-…`, `DSA-…`."""
    severity: Severity
    package: str
    source: str = ""
    """The source package that `package` was built from, `openssl` for `libssl3`; empty if it has none."""
    installed: str
    """Version in the image."""
    fixed: str = ""
    """First version with a fix; empty if none exists yet."""
    location: str = ""
    """Path in the image; for an operating system package the OS family, `debian`, the same on all platforms."""
    platform: str = ""
    """Platform it was found on; several, comma-separated, once reports are merged."""
    published: datetime | None = None
    """Publication time of the advisory, UTC; None if the engine does not say."""
    title: str = ""
    url: str = ""
    witnesses: tuple[Witness, ...] = ()
    """All engines that reported it, once reports are merged."""

    @property
    def names(self) -> frozenset[str]:
        """Its id and aliases in lower case: ids compare case-insensitively."""
        return frozenset(name.lower() for name in (self.id, *self.aliases))

    @property
    def fixable(self) -> bool:
        """Whether a fixed version exists."""
        return bool(self.fixed)

    @property
    def line(self) -> str:
        """`CVE-2022-37434 critical: zlib 1.2.11-r3 (fixed in 1.2.12-r2)`."""
        fixed = f"fixed in {self.fixed}" if self.fixed else "no fix yet"
        return f"{self.id} {self.severity.value}: {self.package} {self.installed} ({fixed})"


Words = Annotated[str, StringConstraints(max_length=300, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""One line of text for messages."""


class Database(Value):
    """A database that a scan used; carries its own advice on its age."""

    kind: Words | None = None
    """Display name: `vulnerability database`; None in reports that do not give it."""
    repository: str
    """Its origin, such as `registry.example.com/vulnerabilities:2`."""
    updated_at: datetime
    """Build time, UTC."""
    sample: bool = False
    """Whether it is a small database for demonstrations, with a handful of vulnerabilities: a pass proves nothing."""
    stale: bool = False
    """Whether it was older than this installation allowed at the time of the scan."""
    limit: Words | None = None
    """The setting that limits its age, such as an option of this installation."""
    remedy: Words | None = None
    """Instruction for getting a newer one."""

    # None rather than an empty string if absent, so that results of older versions keep their fingerprints.


class ScanReport(Value):
    """One engine's findings on one platform's image."""

    engine: str
    engine_version: str
    digest: str
    """Manifest digest of the platform's image that was scanned."""
    platform: str
    databases: tuple[Database, ...] = Field(min_length=1, max_length=20)
    """Every database it was made with; the vulnerability database first."""
    coverage: Coverage = Coverage()
    """The scanned part of the image."""
    findings: tuple[Finding, ...] = ()
    """Sorted by severity, worst first, then id, then package."""

    @model_validator(mode="before")
    @classmethod
    def _older_form(cls, data: Any) -> Any:
        """Convert reports of older versions, which name one database and maybe a Java one."""
        if not isinstance(data, dict) or "database" not in data:
            return data
        named = {"database": "vulnerability database", "java_database": "Java database"}
        found = [(data[key], kind) for key, kind in named.items() if data.get(key) is not None]
        databases = [one | {"kind": kind} if isinstance(one, dict) else one for one, kind in found]
        return {key: value for key, value in data.items() if key not in named} | {"databases": databases}

    @property
    def database(self) -> Database:
        """The vulnerability database."""
        return self.databases[0]

    def without_advice(self) -> ScanReport:
        """Return the same facts without the advice on databases, for a report that anyone may have written."""
        silent = {"kind": None, "limit": None, "remedy": None}
        return self.model_copy(
            update={"databases": tuple(one.model_copy(update=silent) for one in self.databases)}
        )

    def counts(self) -> dict[str, int]:
        """Count findings per severity, zeros included."""
        return count_by_severity(self.findings)


def count_by_severity(findings: Iterable[Finding]) -> dict[str, int]:
    """Count findings per severity, worst first, zeros included."""
    counted = Counter(finding.severity for finding in findings)
    return {severity.value: counted[severity] for severity in Severity}


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Sort findings: worst severity first, then id, then package, so that equal reports are equal bytes."""
    return tuple(sorted(findings, key=lambda f: (-f.severity.rank, f.id, f.package, f.location)))
