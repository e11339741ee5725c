"""The real Trivy with a real registry that contains images and the sample databases."""

from __future__ import annotations

import io
import time
import zipfile
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from delivery_chain.oci.manifest import OCI_MANIFEST
from delivery_chain.sandbox import vulndb
from delivery_chain.scanners.interface import ImageRef, ScanOutput, Workplace
from delivery_chain.scanners.trivy.databases import ensure_database
from delivery_chain.scanners.trivy.options import TrivyOptions
from delivery_chain.scanners.trivy.scanner import TrivyScanner
from support.scan_images import push_files
from support.sections import section

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from delivery_chain.core.names.registry import Registry
    from delivery_chain.oci.client import RegistryClient

AMD64, ARM64 = "linux/amd64", "linux/arm64"
BUILT = datetime(2026, 11, 20, 12, tzinfo=UTC)
NOW = BUILT + timedelta(hours=1)
DATABASE, JAVA_DATABASE = "aquasecurity/trivy-db", "aquasecurity/trivy-java-db"


class Bench:
    """A registry with images and the sample databases, a cache folder and a clock."""

    def __init__(self, client: RegistryClient, cache: Path) -> None:
        self.client = client
        self.registry = client.registry
        self.options = TrivyOptions(
            db_repository=f"{self.registry.host}/{DATABASE}:2",
            java_db_repository=f"{self.registry.host}/{JAVA_DATABASE}:1",
            wheel=True,
        )
        self.cache = cache
        self.folder = cache.with_name("job")
        self.folder.mkdir(exist_ok=True)
        self.now = NOW
        self.lines: list[str] = []

    def push(self, name: str, files: Mapping[str, str | bytes], platform: str = AMD64) -> str:
        return push_files(self.client, name, files, platform=platform)

    def scan(
        self,
        name: str,
        digest: str,
        *,
        platform: str = AMD64,
        registry: Registry | None = None,
        seconds: float = 60,
    ) -> ScanOutput:
        image = ImageRef(registry or self.registry, name, digest)
        scanner = TrivyScanner(clock=lambda: self.now)
        workplace = Workplace(self.folder, section(trivy_cache_dir=self.cache), (self.registry,))
        ready = scanner.prepare(self.options, workplace, seconds=60, log=self.lines.append)
        return scanner.scan(image, platform, ready, seconds=seconds, log=self.lines.append)

    def database_file(self) -> Path:
        found = ensure_database(
            self.options, self.cache, now=self.now, deadline=time.monotonic() + 30, on_line=self.lines.append
        )
        return found.cache_dir / "db" / "trivy.db"

    def publish(self, layer: bytes, *, java: bool = False) -> None:
        """Put another database artifact into the mirror."""
        name, tag = (JAVA_DATABASE, "1") if java else (DATABASE, "2")
        self.client.put_blob_bytes(name, b"{}")
        self.client.put_blob_bytes(name, layer)
        manifest = vulndb.sample_manifest(layer=layer, config=b"{}", java=java)
        self.client.put_manifest(name, tag, manifest, OCI_MANIFEST)

    def downloads(self, what: str = "") -> int:
        """Number of downloaded databases: all, or those with a text in their log line."""
        return sum("successfully downloaded" in line and what in line for line in self.lines)


def jar(artifact: str = "", group: str = "", version: str = "") -> bytes:
    """A Java archive; with a name, it contains Maven's `pom.properties`."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\n")
        if artifact:
            archive.writestr(
                f"META-INF/maven/{group}/{artifact}/pom.properties",
                f"groupId={group}\nartifactId={artifact}\nversion={version}\n",
            )
    return stream.getvalue()


LOG4J = jar("log4j-core", "org.apache.logging.log4j", "2.14.1")
