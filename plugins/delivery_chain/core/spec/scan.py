"""Model the spec's `scan` section: how images are scanned, what blocks them, and what happens then."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import Discriminator, Field, StringConstraints, Tag, model_validator

from delivery_chain.core.gate.coverage import Gap
from delivery_chain.core.gate.findings import Severity
from delivery_chain.core.spec.engines import SCAN_ENGINES, EngineNames
from delivery_chain.core.spec.types import Day, FindingId, Flag, PlatformText, RepositoryName
from delivery_chain.core.value import Value


class Logic(StrEnum):
    """Combination of severity and count (ACR EE's Logic)."""

    AND = "and"
    OR = "or"


class Clause(Value):
    """One condition that blocks an image."""

    severity: Severity | None = None
    """Findings at or above this level count."""
    count: Annotated[int, Field(ge=1)] = 1
    """Number of findings that blocks."""
    logic: Logic = Logic.AND
    """`and`: `count` findings at or above `severity`. `or`: any at or above it, or `count` findings in all; requires
    both."""
    findings: tuple[FindingId, ...] = ()
    """Ids or aliases that block on their own, whatever severity and count say; case-insensitive."""
    fixable: Flag = False
    """Count only findings with a fixed version."""
    grace_days: Annotated[int, Field(ge=0, le=365)] = 0
    """Ignore findings published less than this many days ago."""

    @model_validator(mode="after")
    def _or_needs_both(self) -> Self:
        if self.logic is Logic.OR and (self.severity is None or "count" not in self.model_fields_set):
            missing = "severity" if self.severity is None else "count"
            raise ValueError(
                f"`logic: or` needs a `{missing}`: it blocks on any finding at or above `severity`, or on `count` "
                "findings in all"
            )
        return self

    @property
    def says_something(self) -> bool:
        """Whether the clause can block anything."""
        return self.severity is not None or bool(self.findings)


class GateException(Value):
    """An accepted finding, with who accepts it, why and until when."""

    id: FindingId
    """The finding's id or one of its aliases; case-insensitive."""
    package: Annotated[str, StringConstraints(min_length=1)] | None = None
    """Accept it only in this package, or in packages built from this source package."""
    repository: RepositoryName | None = None
    """Accept it only in this repository."""
    reason: Annotated[str, StringConstraints(min_length=1, max_length=1000)]
    owner: str = ""
    expires: Day | None = None
    """Last day (UTC) on which it applies."""


class OnBlock(Value):
    """Actions on a blocked image."""

    delete: Flag = False
    """Delete the image. If false, it stays; a staged build keeps its staging tag."""
    backup: Flag = False
    """Copy the image to `<namespace>-quarantine/<repository>` first, with its report."""


class Block(Clause):
    """Policy that blocks an image, and the actions on a blocked one. Its own clause and each of `any` block alone."""

    any: tuple[Clause, ...] = Field(default=(), max_length=50)
    """More clauses; meeting any of them blocks."""
    exceptions: tuple[GateException, ...] = Field(default=(), max_length=1000)
    on_block: OnBlock = OnBlock()

    @model_validator(mode="after")
    def _can_block(self) -> Self:
        if not (self.says_something or self.any):
            raise ValueError("expected a `severity`, `findings` or `any`: this blocks nothing")
        if not all(clause.says_something for clause in self.any):
            raise ValueError("`any`: each clause needs a `severity` or `findings`")
        return self

    @property
    def clauses(self) -> tuple[Clause, ...]:
        """All clauses, its own first."""
        return ((self,) if self.says_something else ()) + self.any


class Artifacts(StrEnum):
    """Handling of pushes that are proven not to be images: a chart, a WebAssembly module, a signature."""

    SKIP = "skip"
    """The run ends and says why."""
    COPY = "copy"
    """It is delivered like an image, without a scan, and the verdict says so."""
    REFUSE = "refuse"
    """The run fails."""


class Ship(Value):
    """Platforms to publish; all others of an index are dropped."""

    ship: tuple[PlatformText, ...] = Field(min_length=1, max_length=50)
    """In the form `os/architecture` or `os/architecture/variant`."""


def _which_form(value: Any) -> str:
    return "Ship" if isinstance(value, dict | Ship) else "Scanned"


Platforms = Annotated[
    Annotated[tuple[PlatformText, ...], Field(max_length=50), Tag("Scanned")] | Annotated[Ship, Tag("Ship")],
    Discriminator(_which_form),
]


class Scan(Value):
    """Settings for scanning images and blocking them."""

    enabled: Flag = True
    """`false` lets images through unscanned; the record says so."""
    engine: EngineNames = Field(default=SCAN_ENGINES[:1], min_length=1)
    """One engine or several."""
    block: Block | None = None
    """If omitted, findings are recorded and nothing is blocked."""
    accept: tuple[Gap, ...] = ()
    """Scan gaps, by name, with which an image still passes; the verdict names them."""
    platforms: Platforms = ()
    """Platforms that get their own scan task, besides those of the build rules; or `ship`, the ones to publish."""
    artifacts: Artifacts = Artifacts.SKIP
    """Handling of charts and other artifacts that are pushed to the chain's repositories."""
    timeout_minutes: Annotated[int, Field(ge=1, le=240)] = 15
    """Time limit for one image and engine."""

    @property
    def ship(self) -> tuple[str, ...]:
        """The only platforms that are published; empty for all."""
        return self.platforms.ship if isinstance(self.platforms, Ship) else ()

    @model_validator(mode="after")
    def _block_needs_scan(self) -> Self:
        if self.block and not self.enabled:
            raise ValueError("`block` needs the scan: drop `enabled: false` or `block`")
        return self
