"""What a scanner found, in one shape whatever the engine: facts only, no policy."""

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
"""Annotation of a report: when its database was made."""


class Severity(StrEnum):
    """How bad a finding is, worst first. ACR EE has no critical: there it counts as high."""

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
    """Who reported a finding, and with which words; kept when reports are merged."""

    engine: str
    platform: str
    id: str
    severity: Severity
    fixed: str = ""
    database: datetime
    """When the makers of the engine's database built it, UTC."""


class Finding(Value):
    """One vulnerability in one package: of one platform's image, or of all of them once reports are merged."""

    id: str
    """`CVE-…`, or the advisory's own id where it has no CVE."""
    aliases: tuple[str, ...] = ()
    """Other ids of it, as the engine gives them: `GHSA-…`, `DSA-…`."""
    severity: Severity
    package: str
    source: str = ""
    """The source package that `package` was built from, `openssl` for `libssl3`; empty where there is none."""
    installed: str
    """Version in the image."""
    fixed: str = ""
    """First version with a fix, empty where there is none yet."""
    location: str = ""
    """Path in the image; for a package of the operating system its family, `debian`, equal on all platforms."""
    platform: str = ""
    """Where it was found; several, with commas, once reports are merged."""
    published: datetime | None = None
    """When the advisory came out, UTC; None where the engine does not say."""
    title: str = ""
    url: str = ""
    witnesses: tuple[Witness, ...] = ()
    """Everybody who reported it, once reports are merged."""

    @property
    def names(self) -> frozenset[str]:
        """Its id and aliases in lower case: ids are compared without regard to case."""
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
"""A text that goes into messages: one line."""


class Database(Value):
    """A database that a scan was made with; says by itself what to do about its age."""

    kind: Words | None = None
    """For people: `vulnerability database`; None in reports that say less."""
    repository: str
    """Where it came from, such as `registry.example.com/vulnerabilities:2`."""
    updated_at: datetime
    """When its makers built it, UTC."""
    sample: bool = False
    """A small database for demonstrations: it knows a handful of vulnerabilities, a pass proves nothing."""
    stale: bool = False
    """Older than this installation allowed at the time of the scan."""
    limit: Words | None = None
    """What says how old it may be, such as an option of this installation."""
    remedy: Words | None = None
    """How to get a newer one, as an instruction."""

    # None where nothing is said, not an empty text: what older versions left has the same fingerprint then.


class ScanReport(Value):
    """One engine's findings on one platform's image."""

    engine: str
    engine_version: str
    digest: str
    """Manifest digest of the platform's image that was scanned."""
    platform: str
    databases: tuple[Database, ...] = Field(min_length=1, max_length=20)
    """Every database that it was made with; first the one of vulnerabilities."""
    coverage: Coverage = Coverage()
    """What was looked at."""
    findings: tuple[Finding, ...] = ()
    """In the order worst first, then id, then package."""

    @model_validator(mode="before")
    @classmethod
    def _older_form(cls, data: Any) -> Any:
        """Reports of older versions name one database, and maybe one of Java archives."""
        if not isinstance(data, dict) or "database" not in data:
            return data
        named = {"database": "vulnerability database", "java_database": "Java database"}
        found = [(data[key], kind) for key, kind in named.items() if data.get(key) is not None]
        databases = [one | {"kind": kind} if isinstance(one, dict) else one for one, kind in found]
        return {key: value for key, value in data.items() if key not in named} | {"databases": databases}

    @property
    def database(self) -> Database:
        """The one of vulnerabilities."""
        return self.databases[0]

    def without_advice(self) -> ScanReport:
        """The same facts without the engine's words on its databases: somebody else may have written the report."""
        silent = {"kind": None, "limit": None, "remedy": None}
        return self.model_copy(
            update={"databases": tuple(one.model_copy(update=silent) for one in self.databases)}
        )

    def counts(self) -> dict[str, int]:
        """Findings per severity, every severity named."""
        return count_by_severity(self.findings)


def count_by_severity(findings: Iterable[Finding]) -> dict[str, int]:
    """Findings per severity, worst first, zeros included."""
    counted = Counter(finding.severity for finding in findings)
    return {severity.value: counted[severity] for severity in Severity}


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Sort findings: worst severity first, then id, then package, so that equal reports are equal bytes."""
    return tuple(sorted(findings, key=lambda f: (-f.severity.rank, f.id, f.package, f.location)))
