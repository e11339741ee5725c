"""Scan engines: what every one of them takes and gives, and the table of names. They load when asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from delivery_chain.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from delivery_chain.core.gate.findings import ScanReport
    from delivery_chain.core.names.registry import Registry
    from delivery_chain.scanners.trivy.databases import TrivySettings

ENGINES = {"trivy": "delivery_chain.scanners.trivy.scanner:TrivyEngine"}
"""Name in a spec to `module:class`."""


@dataclass(frozen=True, slots=True)
class ScanRequest:
    """One image to scan, by digest, in its registry."""

    registry: Registry
    name: str
    """Repository with its namespace."""
    digest: str
    """An image's own manifest; no index."""
    platform: str
    """The image's, as its config says: `linux/arm64`. For the report; the digest alone says what is scanned."""
    settings: TrivySettings
    folder: Path
    """The job's own: all that the engine writes is below it, but for its databases."""


@dataclass(frozen=True, slots=True)
class ScanOutput:
    """What a scan gives."""

    report: ScanReport
    """The findings, in the one shape that the gate reads."""
    raw: bytes = field(repr=False)
    """The engine's own report, to be kept beside the image."""
    media_type: str
    """Media type of `raw`."""


class ScanEngine(Protocol):
    """Finds known vulnerabilities in one image."""

    name: str
    """As in the spec."""

    def scan(
        self, request: ScanRequest, *, deadline: float, on_line: Callable[[str], None] | None
    ) -> ScanOutput:
        """Scan one image; a full report on exactly that digest, or an error.

        Args:
            request: What to scan.
            deadline: Point on the clock of `time.monotonic()`, seconds.
            on_line: Gets the engine's log lines, secrets masked.

        Raises:
            ScanFailed: There is no full report. Not retryable, apart from DatabaseUnavailable.
            RegistryError: The image could not be read; see its subclasses for what may be retried.
            ToolMissing, ToolTimeout: As they say. Not retryable.
        """


def load_engine(name: str) -> ScanEngine:
    """The engine of that name.

    Raises:
        ConfigurationError: No engine has the name. Not retryable.
    """
    if name not in ENGINES:
        known = ", ".join(sorted(ENGINES))
        raise ConfigurationError(f"scan engine {name!r}: expected one of {known}; correct `scan.engine`")
    module, _, attribute = ENGINES[name].partition(":")
    engine: ScanEngine = getattr(import_module(module), attribute)()
    return engine
