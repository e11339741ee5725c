"""The port of scan engines: what each takes and gives. `scanners.table` has them by name.

An engine keeps its own options, its own databases with their rule of freshness, and its own advice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

from delivery_chain.core.value import Value

if TYPE_CHECKING:
    from pathlib import Path

    from delivery_chain.core.diagnosis import Check
    from delivery_chain.core.gate.findings import ScanReport
    from delivery_chain.core.names.registry import Registry
    from delivery_chain.core.section import Section

Log = Callable[[str], None]
"""Takes one line, secrets masked."""


class Options(Value):
    """What this installation decides for an engine. JSON both ways: read where a job is made, it travels in the job.

    Paths are no part of it. Those are read from `Workplace.section`, where the job runs.
    """

    @classmethod
    def read(cls, section: Section) -> Self:
        """Read the engine's own options.

        Raises:
            ConfigurationError: One has a value that it does not take. Not retryable.
        """
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class ImageRef:
    """One image by digest, in its registry."""

    registry: Registry
    name: str
    """Repository with its namespace."""
    digest: str
    """An image's own manifest; no index."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where a scan runs."""

    folder: Path
    """The job's own: all that an engine writes is below it, but for its databases."""
    section: Section
    """The settings there."""
    logins: tuple[Registry, ...] = ()
    """Registries that the engine may log in to, for its databases too."""


@dataclass(frozen=True, slots=True)
class ScanOutput:
    """What a scan gives."""

    report: ScanReport
    """The findings, in the one shape that the gate reads; each database in it says whether it is stale."""
    raw: bytes = field(repr=False)
    """The engine's own report, to be kept beside the image."""
    media_type: str
    """Media type of `raw`."""


O = TypeVar("O", bound=Options)  # noqa: E741 - options
D = TypeVar("D")


class Scanner(Protocol[O, D]):
    """Finds known vulnerabilities in one image. `O` are its options, `D` is what it makes ready on a machine."""

    name: str
    """As in the spec and in reports."""
    options: type[O]

    def prepare(self, options: O, workplace: Workplace, *, seconds: float, log: Log) -> D:
        """Make the program and its databases ready.

        Raises:
            DatabaseUnavailable: There is none, and none can be fetched. Retryable.
            ToolMissing, ToolTimeout, ConfigurationError, ScanFailed: As they say. Not retryable.
        """

    def scan(self, image: ImageRef, platform: str, database: D, *, seconds: float, log: Log) -> ScanOutput:
        """Scan one image: a full report on exactly that digest, or an error.

        Args:
            image: What to scan.
            platform: The image's, as its config says: `linux/arm64`. For the report; the digest says what to scan.
            database: What `prepare` gave. More may be fetched, if the image turns out to need it.
            seconds: How long it may take.
            log: Gets the engine's lines.

        Raises:
            ScanFailed: There is no full report. Not retryable, apart from DatabaseUnavailable.
            RegistryError: The image could not be read; see its subclasses for what may be retried.
            ToolTimeout: The time is over. Not retryable.
        """

    def checks(self, section: Section) -> Iterable[Check]:
        """What `delivery-chain doctor` looks at on this machine."""
