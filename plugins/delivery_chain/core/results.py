"""Results that each step passes on and puts into the record: small facts keyed by digest."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import model_validator

from delivery_chain.core.gate.findings import Database
from delivery_chain.core.value import Value


class BuildResult(Value):
    """Image of one platform, pushed under its staging tag."""

    platform: str
    digest: str
    build_seconds: float
    push_seconds: float
    plan: str = ""
    """Fingerprint of the plan that it was built for."""
    sandbox: str
    """Isolation of the build from the worker, and its network."""


class Image(Value):
    """One image manifest."""

    digest: str
    platform: str
    """For display and for engines: `linux/arm/v5`, `windows/amd64`. Not a key, since several images may share one."""


class Other(Value):
    """Manifest, index or blob of an index that is proven not to be an image."""

    digest: str
    what: str
    """`attestation`, `index`, `artifact application/vnd.cncf.helm.config.v1+json`, …"""


class Subject(Value):
    """The digest that a run is about. Everything reachable from it is in `images` or in `others`."""

    plan: str = ""
    """Fingerprint of the plan that it was made for."""
    digest: str
    media_type: str
    size: int
    """Size of the manifest in bytes."""
    images: tuple[Image, ...] = ()
    """Every image manifest, without duplicates, in the index's order; a single manifest itself."""
    others: tuple[Other, ...] = ()
    """Everything else, proven not to be an image."""


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
    """Digest of the referrer manifest that holds the engine's own report."""


class Scanned(Value):
    """Results of one scan task: one per engine and image of its platform."""

    results: tuple[ScanResult, ...]


class TagMove(Value):
    """Result for one tag."""

    tag: str
    state: str
    """`moved`, `unchanged`, or `kept` if a newer push holds it."""
    digest: str
    """Digest that the tag points at now."""
    previous: str = ""
    """Digest that it pointed at before, empty if it was new."""


class Published(Value):
    """The user's tags in one registry."""

    digest: str
    tags: tuple[TagMove, ...]

    @property
    def held(self) -> tuple[str, ...]:
        """Tags that point at the run's digest now."""
        return tuple(move.tag for move in self.tags if move.digest == self.digest)


class RegionResult(Value):
    """Copy of the image in one region: the result of `replicate`."""

    rule: str
    region: str
    host: str
    name: str
    digest: str
    tags: tuple[TagMove, ...]
    copied: int
    """Blobs sent."""
    skipped: int
    """Blobs that the region already had, or mounted from another repository."""
    bytes: int
    """Bytes sent."""
    seconds: float


class AttemptOutcome(StrEnum):
    """Outcome of a delivery attempt."""

    DONE = "done"
    """The target accepted it."""
    REFUSED = "refused"
    """Rejected: sending the same again would fail again."""
    LATER = "later"
    """The target may accept the same later."""


class Attempt(Value):
    """One attempt to deliver to a trigger's target."""

    at: datetime
    tag: str
    seconds: float
    status: int = 0
    """HTTP status; 0 without a response."""
    answer: str = ""
    """First bytes of the response, or the reason why there was none."""
    outcome: AttemptOutcome
    after: float | None = None
    """Seconds the target asked to wait."""
    advice: str | None = None
    """Next step after a refusal."""

    @model_validator(mode="before")
    @classmethod
    def _older(cls, data: Any) -> Any:
        """Convert results of versions without `outcome`, which only had webhooks: just those that arrived count."""
        if not isinstance(data, dict) or "outcome" in data:
            return data
        arrived = data.get("status") in range(200, 300)
        return data | {"outcome": AttemptOutcome.DONE if arrived else AttemptOutcome.LATER}

    def __str__(self) -> str:
        return f"{self.status or 'no answer'} in {self.seconds} s: {self.answer[:200]!r}"


class DeliveryResult(Value):
    """Deliveries of one trigger."""

    trigger: str
    url: str
    """Without its secret part."""
    digest: str = ""
    """Subject of the message; empty in results of older versions."""
    delivered: tuple[str, ...]
    """Tags in the message."""
    attempts: tuple[Attempt, ...]


class Quarantined(Value):
    """Location of a blocked image."""

    digest: str
    backup: str = ""
    """`host/namespace-quarantine/repository:tag`, empty if the rule keeps no backup."""
    deleted: tuple[str, ...] = ()
    """Removed tags and digests."""
    kept: str = ""
    """Every tag and index that still serves the image or a platform of it, as `host/shop/api:v2@sha256:…`, with a
    note in parentheses if it is not the image itself; only the digest if no tag does, empty if nothing does."""


class Record(Value):
    """Record of a run: the result of `report`."""

    chain: str
    image: str
    """`namespace/repository`."""
    tags: tuple[str, ...]
    digest: str = ""
    verdict: str = ""
    end: str = ""
    """End of the run: `delivered`, `blocked`, …"""
    step: str = ""
    """Step in which it ended; empty if it did not end in a step."""
    sentence: str
    """Summary in one sentence. Only the run's note also names users, who are in Airflow's event log."""
    commit: str = ""
    ref: str = ""
    version: str = ""
    """Number and fingerprint of the spec that the run was planned with."""
    regions: dict[str, str] = {}
    """State per replication rule: `success`, `failed`, …"""
    triggers: dict[str, str] = {}
    """State per trigger."""
    clears: int = 0
    """Number of clears of the run when this was recorded: with more clears since, it is out of date."""
    removed_staging: tuple[str, ...] = ()
