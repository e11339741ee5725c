"""What was seen from outside while the kill loop ran, and after it: plain values for `judge`."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """One chain of the loop, as far as it has to be known to judge it."""

    name: str
    image: str
    """`loop/api`; the same in every region."""
    moving: str
    """The tag that every newer push takes over: `latest`, `edge`."""
    triggers: dict[str, bool]
    """By name: whether it is for the moving tag; the others are for all other tags."""
    hooks: dict[str, str]
    """Trigger by the last part of the path at the receiver: `prod` to `tell-release`."""
    regions: dict[str, str]
    """Region by replication rule."""

    @property
    def quarantine(self) -> str:
        """Where its blocked images are backed up."""
        namespace, _, repository = self.image.partition("/")
        return f"{namespace}-quarantine/{repository}"

    def fires(self, trigger: str, tag: str) -> bool:
        """Whether a trigger is for a tag."""
        return self.triggers[trigger] == (tag == self.moving)


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """One push that was made."""

    number: int
    """In the order of the pushes."""
    chain: str
    ref: str
    commit: str
    vulnerable: bool
    way: str
    """How the chain hears of it: `hook`, `twice`, `late`, `sensor`."""
    at: float
    """Unix time."""
    taken: bool = False
    """Whether a webhook of it was answered with success."""

    @property
    def tag(self) -> str:
        """The release's tag; empty for a branch."""
        return self.ref.removeprefix("refs/tags/") if self.ref.startswith("refs/tags/") else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run, as Airflow tells of it."""

    chain: str
    run_id: str
    ref: str
    commit: str
    pushed_at: str
    """ISO 8601, as the event says it."""
    state: str
    note: str
    end: str = ""
    """The record's word for how it ended: `delivered`, `blocked`, …"""
    failed: tuple[str, ...] = ()
    """Tasks that failed, with why as far as that is known."""
    digest: str = ""
    """What `assemble` named."""
    held: tuple[str, ...] = ()
    """Tags that `publish` left at the run's digest."""
    backup: str = ""
    """The tag in the quarantine repository."""
    sentence: str = ""
    """The record's; empty where there is no record."""
    recorded: str = ""
    """The record's digest."""
    regions: dict[str, str] = field(default_factory=dict)
    """The record's state per replication rule."""
    triggers: dict[str, str] = field(default_factory=dict)
    """The record's state per trigger."""

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.chain} {self.run_id}"

    @property
    def superseded(self) -> bool:
        """Whether its record says that a newer push has a run of its own; any other reason to do nothing is none."""
        return self.end == "superseded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What a manifest says of its origin."""

    commit: str
    pushed_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """A tag was seen at another digest than before."""

    at: float
    region: str
    name: str
    tag: str
    digest: str
    """Empty: the tag was gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A request that the receiver kept."""

    id: str
    hook: str
    """The last part of its path."""
    chain: str
    run_id: str
    tag: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything."""

    chains: tuple[Chain, ...]
    home: str
    regions: tuple[str, ...]
    """All, home too."""
    pushes: tuple[Push, ...]
    runs: tuple[Run, ...]
    sights: tuple[Sight, ...]
    """In the order in which they were seen."""
    held: dict[tuple[str, str, str], str]
    """Region, repository and tag to digest, at the end."""
    ever: dict[tuple[str, str, str], frozenset[str]]
    """Every digest that a tag had, by the registries' own storage."""
    images: dict[str, Image]
    """By digest."""
    deliveries: tuple[Delivery, ...]
    pullable: frozenset[str] = frozenset()
    """Digests of blocked images that the home repository still serves."""
    left: tuple[str, ...] = ()
    """What is on the machine or in the registries of jobs that ended."""
