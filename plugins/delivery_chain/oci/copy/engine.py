"""Copy images by digest to one or more targets: plan, send blobs, then manifests from the leaves up, then check.

No tag is moved here, so a partial image can't be pulled by tag.
"""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from delivery_chain.core.names.reference import short_digest
from delivery_chain.errors import ContentMismatch, RegistryError
from delivery_chain.oci import referrers as referrers_of
from delivery_chain.oci.copy.blob import Arrival, Tools, Transfer
from delivery_chain.oci.copy.digest_probe import WORTH_ASKING, Refusals
from delivery_chain.oci.copy.limits import SHARED, Limits
from delivery_chain.oci.copy.plan import CopyPlan, Planner, TargetPlan
from delivery_chain.oci.copy.progress import Meter, Progress
from delivery_chain.oci.copy.resume import Forget, OpenUploads, Resume
from delivery_chain.oci.copy.retry import Retrier, Tries
from delivery_chain.oci.copy.tag import put_tag
from delivery_chain.oci.manifest import Manifest
from delivery_chain.oci.referrer_listing import ReferrersOf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType

    from delivery_chain.oci.copy.endpoint import Place
    from delivery_chain.oci.manifest import AnyManifest, Descriptor

WORKERS = 4
"""Blobs in flight: more gain nothing on one machine, and little over long distances."""


@dataclass(frozen=True, slots=True)
class CopyResult:
    """Result of a copy to one target. Everything counted was verified there."""

    digest: str
    manifests: int
    """Manifests and indexes at the target, referrers included."""
    blobs: int
    """Distinct blobs at the target: copied + mounted + skipped."""
    copied: int
    mounted: int
    skipped: int
    """Blobs that the target already had."""
    bytes: int
    """Bytes sent."""
    referrers: int = 0
    """Referrers among the manifests."""
    resent: int = 0
    """Bytes sent more than once because a transfer broke."""


@dataclass(frozen=True, slots=True)
class TargetOutcome:
    """Outcome of a copy to one target: a result, or the error that ended it."""

    target: str
    """`host/name`."""
    result: CopyResult | None
    error: RegistryError | None = None


@dataclass(slots=True)
class _Side:
    """State of one target during a run."""

    place: Place
    plan: TargetPlan
    ways: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    useful: int = 0
    error: RegistryError | None = None


class Copier:
    """Copier of images from one repository to the same targets. Thread-safe; use it as a context manager."""

    def __init__(
        self,
        source: Place,
        targets: Sequence[Place],
        *,
        referrers: bool = True,
        thorough: bool = False,
        workers: int = WORKERS,
        limits: Limits = SHARED,
        resume: Resume | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        left_behind: Callable[[str], None] | None = None,
    ) -> None:
        """Create a copier; no request is sent yet.

        Args:
            source: Source repository.
            targets: Target repositories; a failure of one does not affect the others.
            referrers: Whether to copy reports, SBOMs and signatures of any of an image's manifests.
            thorough: Check every blob, even if the target has the manifest that references it.
            workers: Blobs in flight; with 1, requests are in the plan's order.
            limits: Concurrency and rate per registry.
            resume: Where open uploads are saved for the next attempt.
            on_progress: Called at most ten times a second, from any thread; an exception in it ends the copy.
            left_behind: If given, referrers that are or contain images are left behind, and this function is
                called with a log line for each.
        """
        self._source = source
        self._targets = {str(target): target for target in targets}
        for target in targets:
            target.client.will_write(target.name)
        self._stop = threading.Event()
        self._retrier = Retrier(limits, self._stop)
        self._pool = ThreadPoolExecutor(workers, "copy")
        self.meter = Meter(tuple(self._targets), on_progress)
        self._tools = Tools(self._retrier, OpenUploads(resume or Forget()), self.meter, Refusals())
        self._planner = Planner(
            source, tuple(self._targets.values()), self._retrier, self._map, referrers, thorough, left_behind
        )
        self._arrived: set[str] = set()
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.stop()
        self._pool.shutdown(cancel_futures=True)

    def stop(self) -> None:
        """Abort everything in flight."""
        self._stop.set()
        for place in (self._source, *self._targets.values()):
            place.client.abort()

    def plan(self, digest: str) -> CopyPlan:
        """Find out which parts of an image the targets lack.

        Raises:
            NotFound: The source lacks the image or a part of it.
            ProtocolViolation: The image has more than 4 levels of indexes or 1000 manifests, or is not an image.
            RegistryError: See `errors`.
        """
        return self._planner.plan(digest)

    def run(self, plan: CopyPlan) -> tuple[TargetOutcome, ...]:
        """Send what is missing, and verify that each target has everything.

        Returns:
            One outcome per target, in the plan's order. Content sent to a failed target stays there, untagged.

        Raises:
            RegistryError: The source failed.
        """
        sides = [_Side(self._targets[one.target], one) for one in plan.targets]
        for side in sides:
            self.meter.expect(side.plan.target, len(side.plan.blobs), side.plan.bytes)
            if side.plan.bytes >= WORTH_ASKING:
                self._tools.refusals.ask(side.place)
        self._send_blobs(sides)
        for side in sides:
            self._guarded(side, lambda one: self._finish(one, plan))
        self.meter.finish()
        return tuple(_outcome(side, plan) for side in sides)

    def tag(self, target: Place, tag: str, plan: CopyPlan, *, overwrite: bool = True) -> None:
        """Point a target's tag at an image that `run` copied. This is the only step visible to users.

        Raises:
            TagConflict: The tag points elsewhere and may not be moved, or another client moved it at the same moment.
            NotFound: The target does not have the image.
        """
        root = next(one for one in plan.closure.manifests if one.digest == plan.digest)
        put = partial(
            put_tag, target.client, target.name, tag, plan.digest, overwrite=overwrite, manifest=root
        )
        self._retrier.call(target.registry, put)

    def _send_blobs(self, sides: list[_Side]) -> None:
        wanted: dict[str, tuple[Descriptor, list[_Side]]] = {}
        for side in sides:
            for blob in side.plan.blobs:
                wanted.setdefault(blob.digest, (blob, []))[1].append(side)
        jobs = [self._pool.submit(self._bring, blob, to) for blob, to in wanted.values()]
        try:
            for job in jobs:
                job.result()
        except BaseException:
            for job in jobs:
                job.cancel()
            raise

    def _bring(self, blob: Descriptor, sides: list[_Side]) -> None:
        """Send one blob to the targets that lack it; a blob shared by several images is sent once."""
        with self._guard:
            lock = self._locks.setdefault(blob.digest, threading.Lock())
        with lock:
            groups = _by_registry([side for side in sides if side.error is None])
            # One upload per registry is enough: its other repositories mount the blob from the first.
            self._transfer(blob, [(group[0], "") for group in groups])
            self._transfer(blob, [(side, group[0].place.name) for group in groups for side in group[1:]])

    def _transfer(self, blob: Descriptor, ends: list[tuple[_Side, str]]) -> None:
        arrivals: list[tuple[_Side, Arrival]] = []
        for side, mount_from in ends:
            if side.place.key(blob) in self._arrived:
                side.ways["skipped"] += 1
                self.meter.blob_done(side.plan.target, blob.size)
                continue
            origin = mount_from or _mount_from(self._source, side.place)
            arrivals.append((side, Arrival(side.place, Tries(self._retrier), origin)))
        Transfer(self._source, blob, [one for _, one in arrivals], self._tools).run()
        for side, arrival in arrivals:
            self._count(side, arrival, blob)

    def _count(self, side: _Side, arrival: Arrival, blob: Descriptor) -> None:
        with self._guard:
            side.sent += arrival.sent
            side.error = side.error or arrival.error
            if arrival.way:
                side.ways[arrival.way] += 1
                side.useful += min(blob.size, arrival.sent)
                self._arrived.add(side.place.key(blob))

    def _finish(self, side: _Side, plan: CopyPlan) -> None:
        if side.plan.in_sync:
            return
        leaves = [one for one in side.plan.manifests if isinstance(one, Manifest) and one.subject is None]
        self._each(lambda one: self._put_manifest(side.place, one), leaves)
        for manifest in (one for one in side.plan.manifests if one not in leaves):
            self._put_manifest(side.place, manifest)
        for subject, entry in side.plan.links:
            self._link(side.place, subject, entry)
        self._check(side.place, plan)

    def _put_manifest(self, target: Place, manifest: AnyManifest) -> None:
        self._retrier.call(
            target.registry,
            lambda: target.client.put_manifest(
                target.name, manifest.digest, manifest.raw, manifest.media_type
            ),
        )

    def _link(self, target: Place, subject: str, entry: Descriptor) -> None:
        self._retrier.call(
            target.registry, lambda: referrers_of.link(target.client, target.name, subject, entry)
        )

    def _check(self, target: Place, plan: CopyPlan) -> None:
        """Check by digest that a target has every part of the image.

        Raises:
            ContentMismatch: A part is missing, or has another size. Retryable: the next copy sends it again.
        """
        self._each(lambda one: self._check_manifest(target, one), plan.closure.manifests)
        self._each(lambda one: self._check_blob(target, one), plan.closure.blobs)
        listed = ReferrersOf(target.client, target.name)
        for subject, entry in plan.closure.links:
            found = self._retrier.call(target.registry, partial(listed, subject))
            if entry.digest not in {one.digest for one in found}:
                raise _lost(f"referrer {entry.digest} of {short_digest(subject)}", target, "is not listed")

    def _check_manifest(self, target: Place, manifest: AnyManifest) -> None:
        found = self._retrier.call(
            target.registry, lambda: target.client.head_manifest(target.name, manifest.digest)
        )
        if found is None or found.size != len(manifest.raw):
            raise _lost(f"manifest {manifest.digest}", target, "is not")

    def _check_blob(self, target: Place, blob: Descriptor) -> None:
        if not self._planner.has_blob(target, blob):
            raise _lost(f"blob {blob.digest}", target, "is not")

    def _each(self, work: Callable[[Any], None], things: Iterable[Any]) -> None:
        for _ in self._map(work, things):
            pass

    def _map(self, work: Callable[[Any], Any], things: Iterable[Any]) -> Iterable[Any]:
        some = list(things)
        # Run a single item here: waking another thread for it gains nothing.
        return self._pool.map(work, some) if len(some) > 1 else map(work, some)

    def _guarded(self, side: _Side, step: Callable[[_Side], None]) -> None:
        if side.error is not None:
            return
        try:
            step(side)
        except RegistryError as error:
            side.error = error


def _by_registry(sides: list[_Side]) -> list[list[_Side]]:
    groups: dict[tuple[str, str], list[_Side]] = {}
    for side in sides:
        registry = side.place.registry
        groups.setdefault((registry.base_url, registry.username), []).append(side)
    return list(groups.values())


def _mount_from(source: Place, target: Place) -> str:
    if target.mountable_from(source):
        return source.name
    return target.mount_from[0] if target.mount_from else ""


def _lost(what: str, target: Place, how: str) -> ContentMismatch:
    return ContentMismatch(f"{what} {how} in {target} after the copy. A retry sends it again")


def _outcome(side: _Side, plan: CopyPlan) -> TargetOutcome:
    if side.error is not None:
        return TargetOutcome(side.plan.target, None, side.error)
    blobs, ways = len(plan.closure.blobs), side.ways
    result = CopyResult(
        digest=plan.digest,
        manifests=len(plan.closure.manifests),
        blobs=blobs,
        copied=ways["copied"],
        mounted=ways["mounted"],
        skipped=blobs - ways["copied"] - ways["mounted"],
        bytes=side.sent,
        referrers=len({entry.digest for _, entry in plan.closure.links}),
        resent=side.sent - side.useful,
    )
    return TargetOutcome(side.plan.target, result)
