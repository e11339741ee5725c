"""Values for `judge`: everything that was observed from outside while the kill loop ran, and after it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """One chain of the loop, with the facts needed to judge its runs."""

    name: str
    image: str
    """`loop/api`; the same in every region."""
    moving: str
    """The tag that moves to every newer push: `latest`, `edge`."""
    triggers: dict[str, bool]
    """Triggers by name, with whether they are for the moving tag; the others are for all other tags."""
    hooks: dict[str, str]
    """Maps the last part of a path at the receiver to its trigger: `prod` to `tell-release`."""
    regions: dict[str, str]
    """Maps replication rules to regions."""

    @property
    def quarantine(self) -> str:
        """The repository for backups of its blocked images."""
        namespace, _, repository = self.image.partition("/")
        return f"{namespace}-quarantine/{repository}"

    def fires(self, trigger: str, tag: str) -> bool:
        """Whether a trigger is for a tag."""
        return self.triggers[trigger] == (tag == self.moving)


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """One push that was made."""

    number: int
    """Number of the push, in order."""
    chain: str
    ref: str
    commit: str
    vulnerable: bool
    way: str
    """The way in which the push is reported: `hook`, `twice`, `late`, `sensor`."""
    at: float
    """Unix time."""
    taken: bool = False
    """Whether the receiver accepted a webhook for this push."""

    @property
    def tag(self) -> str:
        """The release's tag; empty for a branch."""
        return self.ref.removeprefix("refs/tags/") if self.ref.startswith("refs/tags/") else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run, as Airflow reports it."""

    chain: str
    run_id: str
    ref: str
    commit: str
    pushed_at: str
    """Time of the push from the event, ISO 8601."""
    state: str
    note: str
    end: str = ""
    """The run's end, according to its record: `delivered`, `blocked`, …"""
    failed: tuple[str, ...] = ()
    """Tasks that failed, with the reasons that are known."""
    digest: str = ""
    """Digest that `assemble` left."""
    held: tuple[str, ...] = ()
    """Tags that `publish` left at the run's digest."""
    backup: str = ""
    """The tag in the quarantine repository."""
    sentence: str = ""
    """The record's sentence; empty without a record."""
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
        """Whether its record says that a newer push has a run of its own. Other reasons to do nothing don't count."""
        return self.end == "superseded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image's origin, according to its manifest."""

    commit: str
    pushed_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """One observed change of a tag's digest."""

    at: float
    region: str
    name: str
    tag: str
    digest: str
    """The new digest; empty if the tag no longer existed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A request that the receiver stored."""

    id: str
    hook: str
    """The last part of the request's path."""
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
    """All regions, including the home region."""
    pushes: tuple[Push, ...]
    runs: tuple[Run, ...]
    sights: tuple[Sight, ...]
    """Changes of tags, in the order in which they were observed."""
    held: dict[tuple[str, str, str], str]
    """Maps region, repository and tag to the digest at the end."""
    ever: dict[tuple[str, str, str], frozenset[str]]
    """Every digest that a tag ever had, according to the registries' storage."""
    images: dict[str, Image]
    """By digest."""
    deliveries: tuple[Delivery, ...]
    pullable: frozenset[str] = frozenset()
    """Digests of blocked images that the home repository still serves."""
    left: tuple[str, ...] = ()
    """Leftovers of ended jobs on the machine or in the registries."""
