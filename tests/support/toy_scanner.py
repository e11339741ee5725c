"""A scan engine for tests of the code around engines: its findings are set by a test."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from delivery_chain.core.diagnosis import Check, ok
from delivery_chain.core.gate.findings import Database, Finding, ScanReport
from delivery_chain.core.spec import engines
from delivery_chain.scanners import table
from delivery_chain.scanners.interface import ImageRef, Log, Options, ScanOutput, Workplace
from support.chain_steps import DATABASE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pytest

    from delivery_chain.core.section import Section
    from delivery_chain.scanners.interface import Scanner

RAW_TYPE = "application/vnd.scanner+json"


class ToyOptions(Options):
    """One option."""

    depth: int = 1

    @classmethod
    def read(cls, section: Section) -> Self:
        """Read `toy_depth`."""
        return cls(depth=section.whole("toy_depth", 1, 1, 9))


@dataclass
class Toy:
    """Returns the findings that a test sets, per platform."""

    findings: Mapping[str, tuple[Finding, ...]] = field(default_factory=dict)
    name: str = "trivy"
    database: Database = DATABASE
    other_digest: str = ""
    error: Exception | None = None
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    """Repository, digest and platform of each scan."""
    prepared: list[ToyOptions] = field(default_factory=list)
    options = ToyOptions

    def prepare(self, options: ToyOptions, workplace: Workplace, *, seconds: float, log: Log) -> Database:
        """Record the options; nothing is fetched."""
        self.prepared.append(options)
        return self.database

    def scan(
        self, image: ImageRef, platform: str, database: Database, *, seconds: float, log: Log
    ) -> ScanOutput:
        """Return a report with the findings, or raise the error."""
        self.asked.append((image.name, image.digest, platform))
        if self.error is not None:
            raise self.error
        report = ScanReport(
            engine=self.name,
            engine_version="1",
            digest=self.other_digest or image.digest,
            platform=platform,
            databases=(database,),
            findings=self.findings.get(platform, ()),
        )
        return ScanOutput(report, b'{"raw": true}', RAW_TYPE)

    def checks(self, section: Section) -> Iterator[Check]:
        """Yield no problem."""
        yield Check("tool", self.name, lambda: [ok("tool", self.name, "is there")])


def plug(monkeypatch: pytest.MonkeyPatch, scanner: Scanner[Any, Any] | Any) -> None:
    """Put an engine into the table under its name, and its name into the list of names allowed in specs."""
    factory = f"make_{scanner.name}"
    monkeypatch.setattr(sys.modules[__name__], factory, lambda: scanner, raising=False)
    monkeypatch.setitem(table.SCANNERS, scanner.name, f"{__name__}:{factory}")
    names = tuple(dict.fromkeys((*engines.SCAN_ENGINES, scanner.name)))
    monkeypatch.setattr(engines, "SCAN_ENGINES", names)
