"""Scan an image in its registry with Trivy: by digest, with databases of known age, without Trivy's own downloads.

The Java database is fetched when an image turns out to need it: Trivy reports that, and is then run again.

Source: Trivy 0.76, `trivy image --help`; failures recorded with a real registry.
"""

from __future__ import annotations

import re
import tempfile
import time
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
from delivery_chain.scanners.trivy.options import TrivyOptions, cache_folder
from delivery_chain.scanners.trivy.report import MAX_REPORT, parse_report
from delivery_chain.scanners.trivy.version import check_version
from delivery_chain.tools.known_flaws import lines as flaws
from delivery_chain.tools.process import failure, is_disk_full

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from delivery_chain.core.diagnosis import Check
    from delivery_chain.core.gate.findings import ScanReport
    from delivery_chain.core.names.reference import Reference
    from delivery_chain.core.section import Section
    from delivery_chain.oci.manifest import Manifest
    from delivery_chain.scanners.interface import ImageRef, Log, Scanner, Workplace
    from delivery_chain.scanners.trivy.database_kinds import DatabaseKind
    from delivery_chain.scanners.trivy.databases import LocalDatabase
    from delivery_chain.tools.process import Completed

    Databases = dict[DatabaseKind, LocalDatabase]

REPORT_TYPE = "application/vnd.aquasec.trivy.report+json"
"""Media type of the stored report; Trivy itself defines none for its JSON."""
_DAMAGED = re.compile(
    r"go\.etcd\.io/bbolt|invalid database|vulnerability DB initialization|DB schema doesn't match"
    r"|cannot be specified on the first run$"
)
_JAVA = re.compile(r"Java DB")
_UNKNOWN_RELEASE = re.compile(r"OS version is not on the EOL list\b")
"""Trivy's only hint that it has no data on a release: its report looks like one on a release without findings."""
_NETWORK = re.compile(
    r"connection refused|connection reset|no such host|i/o timeout|TLS handshake timeout|: EOF$|unexpected EOF"
    r"|broken pipe|no route to host|network is unreachable|server misbehaving|closed network connection"
    r"|unexpected status code 5\d\d",
    re.MULTILINE,
)
_LINUX = "linux"
LARGEST = "100TB"
"""Unpacked size of an image, in Trivy's words."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Trivy with its vulnerability database on one machine."""

    options: TrivyOptions
    workplace: Workplace
    vulnerabilities: LocalDatabase


class TrivyScanner:
    """Trivy as a `Scanner`."""

    name = "trivy"
    options = TrivyOptions

    def __init__(self, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock

    def prepare(self, options: TrivyOptions, workplace: Workplace, *, seconds: float, log: Log) -> Ready:
        """Prepare the program and the vulnerability database, see `Scanner.prepare`."""
        until = time.monotonic() + seconds
        program = find_trivy(wheel=options.wheel)
        if wheel := wheel_of(program):
            log(
                f"trivy: {program} is from the PyPI wheel {wheel}, not from its maintainers: use it in sandboxes only"
            )
        for line in flaws("trivy", check_version(program)):
            log(line)
        return Ready(options, workplace, self._database(VULNERABILITIES, options, workplace, until, log))

    def scan(
        self, image: ImageRef, platform: str, database: Ready, *, seconds: float, log: Log
    ) -> ScanOutput:
        """Scan one image, see `Scanner.scan`."""
        until = time.monotonic() + seconds
        reference, manifest = image_to_scan(image, platform, deadline=until)
        scan = _Scan(database, image, reference, platform, until, log)
        raw, used = self._scanned(scan)
        report = parse_report(
            raw,
            digest=image.digest,
            platform=platform,
            databases=[used[kind].facts for kind in (VULNERABILITIES, JAVA) if kind in used],
            unknown_release=scan.unknown_release,
        )
        return ScanOutput(_with_root(report, image, manifest, until), raw, REPORT_TYPE)

    def checks(self, section: Section) -> Iterator[Check]:
        """Return the checks of the program and both databases, see `Scanner.checks`."""
        from delivery_chain.scanners.trivy.checks import checks  # noqa: PLC0415 - for doctor alone

        return checks(section)

    def _scanned(self, scan: _Scan) -> tuple[bytes, Databases]:
        """Return the report and the databases it was made with.

        A database that turns out to be missing is fetched; one that can't be read is fetched again, once.
        """
        databases = {VULNERABILITIES: scan.ready.vulnerabilities}
        again: set[DatabaseKind] = set()
        while True:
            result = scan.run(databases)
            if isinstance(result, bytes):
                return result, databases
            damaged = databases.get(result)
            if damaged is not None:
                if result in again:
                    raise scan.unreadable(result, damaged)
                again.add(result)
                scan.log(f"{result.name}: Trivy can't read it, so it is fetched again")
            else:
                scan.log(f"{result.name}: the image contains Java archives, so it is needed")
            ready = scan.ready
            databases[result] = self._database(
                result, ready.options, ready.workplace, scan.deadline, scan.log, damaged
            )

    def _database(
        self,
        kind: DatabaseKind,
        options: TrivyOptions,
        workplace: Workplace,
        deadline: float,
        log: Log,
        damaged: LocalDatabase | None = None,
    ) -> LocalDatabase:
        return ensure_database(
            options,
            cache_folder(workplace.section),
            now=self._clock(),
            deadline=deadline,
            kind=kind,
            on_line=log,
            logins=workplace.logins,
            damaged=damaged,
        )


@dataclass(slots=True)
class _Scan:
    """Repeated runs of Trivy on one image, with one or both databases."""

    ready: Ready
    image: ImageRef
    reference: Reference
    platform: str
    deadline: float
    """Time of `time.monotonic()`, seconds."""
    log: Log
    last: tuple[str, ...] = ()
    """Trivy's last lines."""
    unknown_release: bool = False
    """Whether Trivy warned that it does not know the release."""
    _damaged: bool = False

    def run(self, databases: Mapping[DatabaseKind, LocalDatabase]) -> bytes | DatabaseKind:
        """Return the report's bytes, or the database that is missing or unreadable."""
        self._damaged = self.unknown_release = False
        with tempfile.TemporaryDirectory(prefix="scan-", dir=self.ready.workplace.folder) as folder:
            report, cache = Path(folder, "report.json"), Path(folder, "databases")
            cache.mkdir()
            for kind, database in databases.items():
                (cache / kind.folder).symlink_to(database.cache_dir / kind.folder)
            completed = run_trivy(
                self._arguments(report),
                cache_dir=cache,
                wheel=self.ready.options.wheel,
                registry=self.image.registry,
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
        """Return the error for a database that is unreadable after a second download."""
        return ScanFailed(
            f"{kind.name} from {database.facts.repository}: Trivy can't read it, even after a second download; check "
            f"that repository, or empty {cache_folder(self.ready.workplace.section)}",
            tool="trivy",
            output=self.last,
        )

    def _arguments(self, report: Path) -> list[str]:
        return [
            "image",
            *("--image-src", "remote"),
            *("--scanners", "vuln", "--format", "json", "--output", str(report)),
            # A limit makes Trivy read each layer to its end before it inspects it. Without one it misses that the bytes
            # do not match the digest.
            *("--max-image-size", LARGEST),
            # The list of packages distinguishes "no findings" from "nothing scanned".
            "--list-all-pkgs",
            # Not the cache on disk: it has a single lock, so a concurrent scan would fail.
            *("--cache-backend", "memory"),
            *("--skip-db-update", "--skip-java-db-update", "--offline-scan", "--no-progress"),
            str(self.reference),
        ]

    def _watch(self, line: str) -> None:
        self._damaged = self._damaged or bool(_DAMAGED.search(line) and not _JAVA.search(line))
        self.unknown_release = self.unknown_release or bool(_UNKNOWN_RELEASE.search(line))
        self.log(line)

    def _failure(self, completed: Completed) -> Exception:
        lines = "\n".join(completed.output)
        if is_disk_full(completed.output):
            return failure(completed, tool="trivy", what=f"scan of {self.reference}")
        if _NETWORK.search(lines):
            return RegistryUnreachable(
                f"{self.reference}: the connection to the registry broke during the scan; Trivy says: "
                f"{completed.output[-1]}"
            )
        return ScanFailed(
            f"scan of {self.reference} for {self.platform}: expected a report, found a failure; Trivy's last "
            "lines:",
            tool="trivy",
            exit_code=completed.exit_code,
            output=completed.output,
        )


def _with_root(report: ScanReport, image: ImageRef, manifest: Manifest, deadline: float) -> ScanReport:
    """Add to the report what else an image that names no operating system contains."""
    coverage = report.coverage
    if coverage.os_family or coverage.gaps:
        return report
    if not report.platform.startswith(f"{_LINUX}/"):
        root = f"files of {report.platform}"
        coverage = coverage.model_copy(update={"root": root, "gaps": (Gap.UNSUPPORTED_OS,)})
    else:
        coverage = with_root_files(coverage, image.registry, image.name, manifest, deadline=deadline)
    return report.model_copy(update={"coverage": coverage})


def _read(report: Path) -> bytes:
    try:
        with report.open("rb") as file:
            # One byte more than allowed, so that the parser detects an oversized report.
            return file.read(MAX_REPORT + 1)
    except OSError as error:
        raise ScanFailed(
            f"trivy: expected a report after exit code 0, found none ({error.strerror})", tool="trivy"
        ) from error


if TYPE_CHECKING:
    _SCANNER: type[Scanner[TrivyOptions, Ready]] = TrivyScanner
