"""Define the interface of scan engines, which `scanners.table` lists by name.

An engine defines its own options, its databases and how old they may be, and the advice in its messages.
"""

from __future__ import annotations

from abc import abstractmethod
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
"""Logs one line, in which secrets are masked."""


class Options(Value):
    """An engine's settings in this installation. They are read where a job is created, and are part of it, as JSON.

    Paths are not included: they are read from `Workplace.section`, where the job runs.
    """

    @classmethod
    @abstractmethod
    def read(cls, section: Section) -> Self:
        """Read the engine's own options.

        Raises:
            ConfigurationError: An option has an invalid value. Not retryable.
        """


@dataclass(frozen=True, slots=True)
class ImageRef:
    """One image by digest, in its registry."""

    registry: Registry
    name: str
    """Repository with its namespace."""
    digest: str
    """Digest of an image's own manifest, not of an index."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """The environment a scan runs in."""

    folder: Path
    """The job's own folder: an engine writes only here, except for its databases."""
    section: Section
    """Settings of the machine that runs the job."""
    logins: tuple[Registry, ...] = ()
    """Registries that the engine may log in to, including those of its databases."""


@dataclass(frozen=True, slots=True)
class ScanOutput:
    """The result of a scan."""

    report: ScanReport
    """The findings, in the one shape that the gate reads; each database in it says whether it is stale."""
    raw: bytes = field(repr=False)
    """The engine's native report, stored beside the image."""
    media_type: str
    """Media type of `raw`."""


O = TypeVar("O", bound=Options)  # noqa: E741 - options
D = TypeVar("D")


class Scanner(Protocol[O, D]):
    """An engine that finds known vulnerabilities in an image. `O` is its options, `D` its prepared database."""

    name: str
    """Name in the spec and in reports."""
    options: type[O]

    def prepare(self, options: O, workplace: Workplace, *, seconds: float, log: Log) -> D:
        """Prepare the program and its databases.

        Raises:
            DatabaseUnavailable: No database is present, and none can be fetched. Retryable.
            ToolMissing, ToolTimeout, ConfigurationError, ScanFailed: The program or a database can't be used. Not
                retryable.
        """

    def scan(self, image: ImageRef, platform: str, database: D, *, seconds: float, log: Log) -> ScanOutput:
        """Scan one image: return a full report on exactly that digest, or raise.

        Args:
            image: The image to scan.
            platform: The image's platform from its config, `linux/arm64`. For the report only.
            database: Result of `prepare`. Another database may be fetched if the image turns out to need it.
            seconds: Time limit.
            log: Receives the engine's output.

        Raises:
            ScanFailed: No full report could be made. Not retryable, except DatabaseUnavailable.
            RegistryError: The image could not be read; its subclasses say whether to retry.
            ToolTimeout: The time limit passed. Not retryable.
        """

    def checks(self, section: Section) -> Iterable[Check]:
        """Return the checks of `delivery-chain doctor` on this machine."""
