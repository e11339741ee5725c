"""What each step hands to the next and to the record: small facts keyed by digest."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import model_validator

from delivery_chain.core.gate.findings import Database
from delivery_chain.core.value import Value


class BuildResult(Value):
    """One platform's image, pushed under its staging tag."""

    platform: str
    digest: str
    build_seconds: float
    push_seconds: float
    plan: str = ""
    """Fingerprint of the plan that it was built for."""
    sandbox: str
    """How the build was kept apart from the worker: isolation and network."""


class Image(Value):
    """One image manifest."""

    digest: str
    platform: str
    """For people and for engines: `linux/arm/v5`, `windows/amd64`. Several images may have one, so it is no key."""


class Other(Value):
    """A manifest, index or blob of an index that is proven to be no image."""

    digest: str
    what: str
    """`attestation`, `index`, `artifact application/vnd.cncf.helm.config.v1+json`, …"""


class Subject(Value):
    """The one digest that the run is about. All that can be reached below it is in `images` or in `others`."""

    plan: str = ""
    """Fingerprint of the plan that it was made for."""
    digest: str
    media_type: str
    size: int
    """Bytes of the manifest."""
    images: tuple[Image, ...] = ()
    """Every image manifest, each digest once, in the index's order; a single manifest itself."""
    others: tuple[Other, ...] = ()
    """All else, proven to be no image."""


class ScanResult(Value):
    """One engine's scan of one image; the findings themselves are in the registry."""

    engine: str
    platform: str
    digest: str
    counts: dict[str, int]
    database: Database
    report: str
    """Digest of the blob that holds our `ScanReport` as JSON."""
    referrer: str
    """Digest of the referrer manifest under which the engine's own report is kept."""


class Scanned(Value):
    """What one scan task did: a result per engine and image of its platform."""

    results: tuple[ScanResult, ...]


class TagMove(Value):
    """What became of one tag."""

    tag: str
    state: str
    """`moved`, `unchanged`, or `kept` where a newer push holds it."""
    digest: str
    """What the tag points at now."""
    previous: str = ""
    """What it pointed at before, empty if it was new."""


class Published(Value):
    """The user's tags in one registry."""

    digest: str
    tags: tuple[TagMove, ...]

    @property
    def held(self) -> tuple[str, ...]:
        """Tags that point at the run's digest now."""
        return tuple(move.tag for move in self.tags if move.digest == self.digest)


class RegionResult(Value):
    """One region that holds the image: what `replicate` leaves."""

    rule: str
    region: str
    host: str
    name: str
    digest: str
    tags: tuple[TagMove, ...]
    copied: int
    """Blobs sent."""
    skipped: int
    """Blobs that were there, or were mounted from another repository."""
    bytes: int
    """Bytes sent."""
    seconds: float


class Outcome(StrEnum):
    """What came of an attempt to deliver."""

    DONE = "done"
    """The target took it."""
    REFUSED = "refused"
    """The same again gets the same answer."""
    LATER = "later"
    """The target may take the same later."""


class Attempt(Value):
    """One attempt to deliver to a trigger's target."""

    at: datetime
    tag: str
    seconds: float
    status: int = 0
    """HTTP status; 0 where there was no answer."""
    answer: str = ""
    """First bytes of the answer, or the reason why there was none."""
    outcome: Outcome
    after: float | None = None
    """Seconds that the target asked to wait."""
    advice: str | None = None
    """What to do about a refusal."""

    @model_validator(mode="before")
    @classmethod
    def _older(cls, data: Any) -> Any:
        """Versions without `outcome` knew webhooks alone; just what arrived counts in what they left."""
        if not isinstance(data, dict) or "outcome" in data:
            return data
        arrived = data.get("status") in range(200, 300)
        return data | {"outcome": Outcome.DONE if arrived else Outcome.LATER}

    def __str__(self) -> str:
        return f"{self.status or 'no answer'} in {self.seconds} s: {self.answer[:200]!r}"


class DeliveryResult(Value):
    """One trigger's deliveries."""

    trigger: str
    url: str
    """Without its secret part."""
    digest: str = ""
    """What was told about; empty in what older versions left."""
    delivered: tuple[str, ...]
    """Tags that were told about."""
    attempts: tuple[Attempt, ...]


class Quarantined(Value):
    """Where a blocked image went."""

    digest: str
    backup: str = ""
    """`host/namespace-quarantine/repository:tag`, empty where the rule keeps no backup."""
    deleted: tuple[str, ...] = ()
    """Tags and digests that were removed."""
    kept: str = ""
    """Every tag and index that serves the image or a platform of it afterwards, as `host/shop/api:v2@sha256:…` and a
    note in brackets where it is not the image itself; by digest alone where no tag does, empty where nothing does."""


class Record(Value):
    """A run in one value: what `report` leaves behind."""

    chain: str
    image: str
    """`namespace/repository`."""
    tags: tuple[str, ...]
    digest: str = ""
    verdict: str = ""
    end: str = ""
    """How the run ended: `delivered`, `blocked`, …"""
    step: str = ""
    """The step that it ended in; empty for an end that is no step's."""
    sentence: str
    """The end in one sentence. The run's note also names people: they are in Airflow's event log alone."""
    commit: str = ""
    ref: str = ""
    version: str = ""
    """Of the spec that the run was planned with: its number and fingerprint."""
    regions: dict[str, str] = {}
    """State per replication rule: `success`, `failed`, …"""
    triggers: dict[str, str] = {}
    """State per trigger."""
    clears: int = 0
    """How often the run had been cleared when this was told: cleared since, it is out of date."""
    removed_staging: tuple[str, ...] = ()
