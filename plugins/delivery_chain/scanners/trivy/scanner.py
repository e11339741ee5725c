"""Scans an image in its registry with Trivy: by digest, with databases of known age, without downloads of Trivy's own.

The Java database is fetched when an image turns out to need it: Trivy says so, and is run again.

Source: Trivy 0.76, `trivy image --help`; its failures as recorded against a real registry.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from delivery_chain.core.gate.coverage import Gap
from delivery_chain.errors import RegistryUnreachable, ScanFailed
from delivery_chain.scanners.interface import ScanOutput
from delivery_chain.scanners.root_check import with_root_files
from delivery_chain.scanners.trivy.command import find_trivy, run_trivy, wheel_of
from delivery_chain.scanners.trivy.database_kinds import JAVA, VULNERABILITIES
from delivery_chain.scanners.trivy.databases import ensure_database
from delivery_chain.scanners.trivy.image import image_to_scan
from delivery_chain.scanners.trivy.report import MAX_REPORT, parse_report
from delivery_chain.scanners.trivy.version import check_version
from delivery_chain.tools.known_flaws import lines as flaws
from delivery_chain.tools.process import failure, is_disk_full

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from delivery_chain.core.gate.findings import ScanReport
    from delivery_chain.core.names.reference import Reference
    from delivery_chain.oci.manifest import Manifest
    from delivery_chain.scanners.interface import ScanEngine, ScanRequest
    from delivery_chain.scanners.trivy.database_kinds import DatabaseKind
    from delivery_chain.scanners.trivy.databases import LocalDatabase
    from delivery_chain.tools.process import Completed

REPORT_TYPE = "application/vnd.aquasec.trivy.report+json"
"""Media type of the report that is kept; Trivy itself names none for its own JSON."""
_DAMAGED = re.compile(
    r"go\.etcd\.io/bbolt|invalid database|vulnerability DB initialization|DB schema doesn't match"
    r"|cannot be specified on the first run$"
)
_JAVA = re.compile(r"Java DB")
_UNKNOWN_RELEASE = re.compile(r"OS version is not on the EOL list\b")
"""Trivy's only word on a release that it has no list for: its report reads like one on a release without faults."""
_NETWORK = re.compile(
    r"connection refused|connection reset|no such host|i/o timeout|TLS handshake timeout|: EOF$|unexpected EOF"
    r"|broken pipe|no route to host|network is unreachable|server misbehaving|closed network connection"
    r"|unexpected status code 5\d\d",
    re.MULTILINE,
)
_LINUX = "linux"
LARGEST = "100TB"
"""Unpacked size of an image, in Trivy's words."""

Databases = dict["DatabaseKind", "LocalDatabase"]


class TrivyEngine:
    """Trivy as a `ScanEngine`."""

    name = "trivy"

    def __init__(self, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock

    def scan(
        self, request: ScanRequest, *, deadline: float, on_line: Callable[[str], None] | None = None
    ) -> ScanOutput:
        """Scan one image, see `ScanEngine.scan`."""
        program = find_trivy(wheel=request.settings.wheel)
        if wheel := wheel_of(program):
            _say(
                on_line,
                f"trivy: {program} is from the PyPI wheel {wheel}, not from its makers: sandboxes only",
            )
        for line in flaws("trivy", check_version(program)):
            _say(on_line, line)
        image, manifest = image_to_scan(request, deadline=deadline)
        databases = {VULNERABILITIES: self._database(VULNERABILITIES, request, deadline, on_line)}
        scan = _Scan(request, image, deadline, on_line)
        raw = self._scanned(scan, databases)
        java = databases.get(JAVA)
        report = parse_report(
            raw,
            digest=request.digest,
            platform=request.platform,
            database=databases[VULNERABILITIES].facts,
            java_database=java.facts if java is not None else None,
            unknown_release=scan.unknown_release,
        )
        return ScanOutput(_with_root(report, request, manifest, deadline), raw, REPORT_TYPE)

    def _scanned(self, scan: _Scan, databases: Databases) -> bytes:
        """The report; a database that turns out to be missing is fetched, one that can't be read once more."""
        again: set[DatabaseKind] = set()
        while True:
            result = scan.run(databases)
            if isinstance(result, bytes):
                return result
            damaged = databases.get(result)
            if damaged is not None:
                if result in again:
                    raise scan.unreadable(result, damaged)
                again.add(result)
                _say(scan.on_line, f"{result.name}: Trivy can't read it, it is fetched again")
            else:
                _say(scan.on_line, f"{result.name}: the image holds Java archives, so it is needed")
            databases[result] = self._database(result, scan.request, scan.deadline, scan.on_line, damaged)

    def _database(
        self,
        kind: DatabaseKind,
        request: ScanRequest,
        deadline: float,
        on_line: Callable[[str], None] | None,
        damaged: LocalDatabase | None = None,
    ) -> LocalDatabase:
        return ensure_database(
            request.settings,
            now=self._clock(),
            deadline=deadline,
            kind=kind,
            on_line=on_line,
            login=request.registry,
            damaged=damaged,
        )


@dataclass(slots=True)
class _Scan:
    """Trivy on one image, with one set of databases or another."""

    request: ScanRequest
    image: Reference
    deadline: float
    on_line: Callable[[str], None] | None
    last: tuple[str, ...] = ()
    """Trivy's last lines."""
    unknown_release: bool = False
    """Whether Trivy said that it does not know the release."""
    _damaged: bool = False

    def run(self, databases: Mapping[DatabaseKind, LocalDatabase]) -> bytes | DatabaseKind:
        """The report's bytes, or the database that is missing or that Trivy can't read."""
        self._damaged = self.unknown_release = False
        with tempfile.TemporaryDirectory(prefix="scan-", dir=self.request.folder) as folder:
            report, cache = Path(folder, "report.json"), Path(folder, "databases")
            cache.mkdir()
            for kind, database in databases.items():
                (cache / kind.folder).symlink_to(database.cache_dir / kind.folder)
            completed = run_trivy(
                self._arguments(report),
                cache_dir=cache,
                wheel=self.request.settings.wheel,
                registry=self.request.registry,
                deadline=self.deadline,
                work_dir=Path(folder),
                on_line=self._watch,
                check=False,
            )
            self.last = completed.output
            if completed.exit_code == 0:
                return _read(report)
        if self._damaged:
            return VULNERABILITIES
        if _JAVA.search("\n".join(completed.output)) and not is_disk_full(completed.output):
            return JAVA
        raise self._failure(completed)

    def unreadable(self, kind: DatabaseKind, database: LocalDatabase) -> ScanFailed:
        """The error for a database that was fetched twice in vain."""
        return ScanFailed(
            f"{kind.name} from {database.facts.repository}: Trivy can't read it, nor a second copy of it; look at that "
            f"repository, or empty {self.request.settings.cache_dir}",
            tool="trivy",
            output=self.last,
        )

    def _arguments(self, report: Path) -> list[str]:
        return [
            "image",
            *("--image-src", "remote"),
            *("--scanners", "vuln", "--format", "json", "--output", str(report)),
            # A limit makes Trivy read each layer to its end before it looks into it. Without one it overlooks that the
            # bytes are not those of the digest.
            *("--max-image-size", LARGEST),
            # The list of packages tells "no findings" from "nothing looked at".
            "--list-all-pkgs",
            # One cache on disk is one lock, and a second scan fails on it.
            *("--cache-backend", "memory"),
            *("--skip-db-update", "--skip-java-db-update", "--offline-scan", "--no-progress"),
            str(self.image),
        ]

    def _watch(self, line: str) -> None:
        self._damaged = self._damaged or bool(_DAMAGED.search(line) and not _JAVA.search(line))
        self.unknown_release = self.unknown_release or bool(_UNKNOWN_RELEASE.search(line))
        _say(self.on_line, line)

    def _failure(self, completed: Completed) -> Exception:
        lines = "\n".join(completed.output)
        if is_disk_full(completed.output):
            return failure(completed, tool="trivy", what=f"scan of {self.image}")
        if _NETWORK.search(lines):
            return RegistryUnreachable(
                f"{self.image}: the connection to the registry broke during the scan; Trivy says: "
                f"{completed.output[-1]}"
            )
        return ScanFailed(
            f"scan of {self.image} for {self.request.platform}: expected a report, found a failure; Trivy's last "
            "lines:",
            tool="trivy",
            exit_code=completed.exit_code,
            output=completed.output,
        )


def _with_root(report: ScanReport, request: ScanRequest, manifest: Manifest, deadline: float) -> ScanReport:
    """The report, with what the image holds where it names no operating system."""
    coverage = report.coverage
    if coverage.os_family or coverage.gaps:
        return report
    if not request.platform.startswith(f"{_LINUX}/"):
        root = f"files of {request.platform}"
        coverage = coverage.model_copy(update={"root": root, "gaps": (Gap.UNSUPPORTED_OS,)})
    else:
        coverage = with_root_files(coverage, request.registry, request.name, manifest, deadline=deadline)
    return report.model_copy(update={"coverage": coverage})


def _read(report: Path) -> bytes:
    try:
        with report.open("rb") as file:
            # One byte more than allowed, so that the parser sees that it is too large.
            return file.read(MAX_REPORT + 1)
    except OSError as error:
        raise ScanFailed(
            f"trivy: expected a report after exit code 0, found none ({error.strerror})", tool="trivy"
        ) from error


def _say(on_line: Callable[[str], None] | None, line: str) -> None:
    if on_line is not None:
        on_line(line)


if TYPE_CHECKING:
    _ENGINE: type[ScanEngine] = TrivyEngine
