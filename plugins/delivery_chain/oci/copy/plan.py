"""Plan a copy as a value before anything is sent: the parts that each target lacks, in the order to send them.

A registry that has a manifest is trusted to have its blobs: registries accept a manifest only after its blobs, and
copies send blobs first. With `thorough`, every blob is checked anyway.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from delivery_chain.errors import NotFound, ProtocolViolation
from delivery_chain.oci.closure import Closure, Reader, parts, read_closure
from delivery_chain.oci.inventory import content_of, images_in
from delivery_chain.oci.referrer_listing import ReferrersOf

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from delivery_chain.oci.closure import Each
    from delivery_chain.oci.copy.endpoint import Place
    from delivery_chain.oci.copy.retry import Retrier
    from delivery_chain.oci.manifest import AnyManifest, Descriptor


@dataclass(frozen=True, slots=True)
class TargetPlan:
    """Parts that one target lacks."""

    target: str
    """`host/name`."""
    blobs: tuple[Descriptor, ...]
    """Largest first, so that the last one in flight is small."""
    manifests: tuple[AnyManifest, ...]
    """Children before their index, referrers after their subjects."""
    links: tuple[tuple[str, Descriptor], ...]
    """Subject's digest and referrer, for referrers that the target does not list."""
    asked: int
    """Number of blobs checked at the target: the missing ones, and those that it has."""

    @property
    def in_sync(self) -> bool:
        """Whether nothing is missing."""
        return not (self.blobs or self.manifests or self.links)

    @property
    def bytes(self) -> int:
        """Bytes of the missing blobs: the most that has to be sent."""
        return sum(blob.size for blob in self.blobs)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON types."""
        return {
            "target": self.target,
            "in_sync": self.in_sync,
            "bytes": self.bytes,
            "blobs": [{"digest": blob.digest, "size": blob.size} for blob in self.blobs],
            "manifests": [{"digest": one.digest, "media_type": one.media_type} for one in self.manifests],
            "referrers": [{"subject": subject, "digest": entry.digest} for subject, entry in self.links],
        }


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """Plan to copy one image to one or more targets."""

    source: str
    """`host/name`."""
    digest: str
    closure: Closure = field(repr=False)
    """Everything that belongs to the image."""
    targets: tuple[TargetPlan, ...]
    """One plan per target, in the order of the targets."""

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON types: `{"source", "digest", "manifests", "blobs", "bytes", "targets": […]}`."""
        return {
            "source": self.source,
            "digest": self.digest,
            "manifests": len(self.closure.manifests),
            "blobs": len(self.closure.blobs),
            "bytes": sum(blob.size for blob in self.closure.blobs),
            "targets": [target.to_json() for target in self.targets],
        }


@dataclass(slots=True)
class Planner:
    """Planner of copies. Caches responses, so that the images of one repository share them."""

    source: Place
    targets: Sequence[Place]
    retrier: Retrier
    each: Each
    referrers: bool
    thorough: bool
    left_behind: Callable[[str], None] | None = None
    """If given, referrers that are or contain images are left behind, and this is called with a log line for each."""
    _source_lists: ReferrersOf = field(init=False)
    _target_lists: dict[Place, ReferrersOf] = field(init=False)

    def __post_init__(self) -> None:
        self._source_lists = ReferrersOf(self.source.client, self.source.name)
        self._target_lists = {target: ReferrersOf(target.client, target.name) for target in self.targets}

    def plan(self, digest: str) -> CopyPlan:
        """Compare one image at the source and the targets.

        Raises:
            NotFound: The source lacks the image, or a part of it that a target lacks, too.
            RegistryError: See `errors`.
        """
        held: dict[Place, set[str]] = {target: set() for target in self.targets}
        reader = Reader(
            self.source.name,
            lambda one: self._fetch(one, held),
            self._listed if self.referrers else None,
            self._source_has,
            self.each,
            **self._judged_alone(held),
        )
        closure = read_closure(reader, digest)
        plans = tuple(self._missing(target, closure, held[target]) for target in self.targets)
        return CopyPlan(str(self.source), digest, closure, plans)

    def _judged_alone(self, held: dict[Place, set[str]]) -> dict[str, Any]:
        if self.left_behind is None:
            return {}
        content = content_of(self.source.client, self.source.name)

        def unfit(referrer: AnyManifest, known: frozenset[str]) -> str:
            why = images_in(self.source.name, lambda one: self._fetch(one, held), content, referrer, known)
            missing = [
                blob.digest
                for blob in referrer.blobs
                if not blob.foreign and not self._source_has(blob.digest)
            ]
            return why or (f"its blob {missing[0]} is missing" if missing else "")

        return {"unfit": unfit, "left_behind": self.left_behind}

    def _fetch(self, digest: str, held: dict[Place, set[str]]) -> AnyManifest:
        """Fetch a manifest and record which targets have it. Its digest is verified, wherever it comes from."""
        found: AnyManifest | None = None
        for target in self.targets:
            if found is None:
                found = self._maybe(target, digest)
                there = found is not None
            else:
                entry = self.retrier.call(
                    target.registry, partial(target.client.head_manifest, target.name, digest)
                )
                there = entry is not None
            if there:
                held[target].add(digest)
        source = self.source
        return found or self.retrier.call(
            source.registry, lambda: source.client.get_manifest(source.name, digest)
        )

    def _maybe(self, target: Place, digest: str) -> AnyManifest | None:
        try:
            return self.retrier.call(target.registry, lambda: target.client.get_manifest(target.name, digest))
        except NotFound:
            return None

    def _listed(self, digest: str) -> tuple[Descriptor, ...]:
        return self.retrier.call(self.source.registry, lambda: self._source_lists(digest))

    def _source_has(self, digest: str) -> bool:
        source = self.source
        size = self.retrier.call(source.registry, lambda: source.client.head_blob(source.name, digest))
        return size is not None

    def _missing(self, target: Place, closure: Closure, held: set[str]) -> TargetPlan:
        manifests = tuple(one for one in closure.manifests if one.digest not in held)
        known = {blob.digest: blob for blob in closure.blobs}
        asked = (
            known
            if self.thorough
            else {
                blob.digest: known[blob.digest]
                for one in manifests
                for blob in parts(one)
                if blob.digest in known
            }
        )
        there = dict(zip(asked, self.each(lambda one: self.has_blob(target, known[one]), asked), strict=True))
        blobs = sorted((blob for blob in asked.values() if not there[blob.digest]), key=lambda b: -b.size)
        links = self._missing_links(target, closure, held)
        return TargetPlan(str(target), tuple(blobs), manifests, links, len(asked))

    def has_blob(self, target: Place, blob: Descriptor) -> bool:
        """Whether a target has a blob.

        Raises:
            ProtocolViolation: The target has the blob with a different size.
        """
        size = self.retrier.call(target.registry, lambda: target.client.head_blob(target.name, blob.digest))
        if size is not None and size != blob.size:
            raise ProtocolViolation(
                f"blob {blob.digest} of {target}: expected {blob.size} bytes as the manifest says, found {size}. "
                "One of them is damaged: push the image again"
            )
        return size is not None

    def _missing_links(
        self, target: Place, closure: Closure, held: set[str]
    ) -> tuple[tuple[str, Descriptor], ...]:
        missing: list[tuple[str, Descriptor]] = []
        lists: dict[str, set[str]] = {}
        for subject, entry in closure.links:
            if subject in held and subject not in lists:
                found = self.retrier.call(target.registry, partial(self._target_lists[target], subject))
                lists[subject] = {one.digest for one in found}
            if entry.digest not in lists.get(subject, ()):
                missing.append((subject, entry))
        return tuple(missing)
