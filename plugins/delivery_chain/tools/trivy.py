"""Scans an image in its registry with Trivy: by digest, with a database of known age, without downloads.

Trivy's Java database is never fetched by a scan. An image with Java archives needs it, and without it Trivy
fails, which is a ScanFailed here: it is never a pass.

Source: Trivy 0.76, `trivy image --help`; its failures as recorded against a real registry.
"""

from __future__ import annotations

import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from delivery_chain.core.reference import Reference
from delivery_chain.errors import RegistryUnreachable, ScanFailed, ToolError
from delivery_chain.oci.client import RegistryClient
from delivery_chain.oci.manifest import Index
from delivery_chain.tools.engines import ScanOutput
from delivery_chain.tools.installed import flaw_lines
from delivery_chain.tools.process import failure, is_disk_full
from delivery_chain.tools.trivy_command import find_trivy, run_trivy
from delivery_chain.tools.trivy_db import ensure_database
from delivery_chain.tools.trivy_report import MAX_REPORT, parse_report

if TYPE_CHECKING:
    from collections.abc import Callable

    from delivery_chain.tools.engines import ScanEngine, ScanRequest
    from delivery_chain.tools.process import Completed
    from delivery_chain.tools.trivy_db import LocalDatabase

REPORT_TYPE = "application/vnd.aquasec.trivy.report+json"
"""Media type of the report that is kept; Trivy itself names none for its own JSON."""
_DAMAGED = re.compile(
    r"go\.etcd\.io/bbolt|invalid database|vulnerability DB initialization|DB schema doesn't match"
    r"|cannot be specified on the first run$"
)
_JAVA = re.compile(r"Java DB")
_NETWORK = re.compile(
    r"connection refused|connection reset|no such host|i/o timeout|TLS handshake timeout|unexpected EOF"
    r"|no route to host|network is unreachable|server misbehaving"
)


class TrivyEngine:
    """Trivy as a `ScanEngine`."""

    name = "trivy"

    def __init__(self, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock

    def scan(
        self, request: ScanRequest, *, deadline: float, on_line: Callable[[str], None] | None = None
    ) -> ScanOutput:
        """Scan one image, see `ScanEngine.scan`."""
        find_trivy()
        image = _image(request)
        for line in flaw_lines("trivy"):
            _say(on_line, line)
        database = self._database(request, deadline, on_line)
        scan = _Scan(request, image, deadline, on_line)
        raw = scan.run(database)
        if raw is None:
            _say(on_line, "vulnerability database: Trivy can't read it, it is fetched again")
            database = self._database(request, deadline, on_line, damaged=database)
            raw = scan.run(database)
        if raw is None:
            raise ScanFailed(
                f"vulnerability database from {database.facts.repository}: Trivy can't read it, nor a second "
                f"copy of it; look at that repository, or empty {request.settings.cache_dir}",
                tool="trivy",
                output=scan.last,
            )
        digest = image.digest or request.digest
        report = parse_report(raw, digest=digest, platform=request.platform, database=database.facts)
        return ScanOutput(report, raw, REPORT_TYPE)

    def _database(
        self,
        request: ScanRequest,
        deadline: float,
        on_line: Callable[[str], None] | None,
        damaged: LocalDatabase | None = None,
    ) -> LocalDatabase:
        return ensure_database(
            request.settings,
            now=self._clock(),
            deadline=deadline,
            on_line=on_line,
            login=request.registry,
            damaged=damaged,
        )


class _Scan:
    """Trivy on one image, with one database or another."""

    def __init__(
        self,
        request: ScanRequest,
        image: Reference,
        deadline: float,
        on_line: Callable[[str], None] | None,
    ) -> None:
        self._request = request
        self._image = image
        self._deadline = deadline
        self._on_line = on_line
        self._damaged = False
        self.last: tuple[str, ...] = ()
        """Trivy's last lines."""

    def run(self, database: LocalDatabase) -> bytes | None:
        """The report's bytes, or None when Trivy can't read the database."""
        self._damaged = False
        with tempfile.TemporaryDirectory(prefix="scan-") as folder:
            report = Path(folder, "report.json")
            completed = run_trivy(
                self._arguments(report),
                cache_dir=database.cache_dir,
                registry=self._request.registry,
                deadline=self._deadline,
                work_dir=Path(folder),
                on_line=self._watch,
                check=False,
            )
            self.last = completed.output
            if completed.exit_code == 0:
                return _read(report)
        if self._damaged:
            return None
        raise self._failure(completed)

    def _arguments(self, report: Path) -> list[str]:
        return [
            "image",
            *("--image-src", "remote", "--platform", self._request.platform),
            *("--scanners", "vuln", "--format", "json", "--output", str(report)),
            # One cache on disk is one lock, and a second scan fails on it.
            *("--cache-backend", "memory"),
            *("--skip-db-update", "--skip-java-db-update", "--offline-scan", "--no-progress"),
            str(self._image),
        ]

    def _watch(self, line: str) -> None:
        self._damaged = self._damaged or bool(_DAMAGED.search(line) and not _JAVA.search(line))
        _say(self._on_line, line)

    def _failure(self, completed: Completed) -> Exception:
        lines = "\n".join(completed.output)
        if is_disk_full(completed.output):
            return failure(completed, tool="trivy", what=f"scan of {self._image}")
        if _JAVA.search(lines):
            return self._failed(
                "the image holds Java archives, and Trivy's Java database is not on this worker. Run "
                "`trivy image --download-java-db-only --cache-dir "
                f"{self._request.settings.cache_dir.absolute()}` there, then clear the task",
                completed,
            )
        if _NETWORK.search(lines):
            return RegistryUnreachable(
                f"{self._image}: the connection to the registry broke during the scan; Trivy says: "
                f"{completed.output[-1]}"
            )
        return self._failed("expected a report, found a failure; Trivy's last lines:", completed)

    def _failed(self, problem: str, completed: Completed) -> ToolError:
        return ScanFailed(
            f"scan of {self._image} for {self._request.platform}: {problem}",
            tool="trivy",
            exit_code=completed.exit_code,
            output=completed.output,
        )


def _image(request: ScanRequest) -> Reference:
    """The one manifest to scan: the digest itself, or the platform's in an index.

    Asked with our own client first, so that a missing image or a wrong login has its own error.
    """
    with RegistryClient(request.registry) as client:
        manifest = client.get_manifest(request.name, request.digest)
    digest = request.digest
    if isinstance(manifest, Index):
        fitting = [child.digest for child in manifest.children if child.platform_name == request.platform]
        if len(fitting) != 1:
            raise ScanFailed(
                f"{request.name}@{request.digest}: expected one image for {request.platform} in the index, "
                f"found {len(fitting)}; scan a platform that the index holds",
                tool="trivy",
            )
        digest = fitting[0]
    return Reference(host=request.registry.host, name=request.name, digest=digest)


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
