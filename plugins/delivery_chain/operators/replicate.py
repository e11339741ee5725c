"""Copy to one region: first the image by digest, then the tags that the home registry gives it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from delivery_chain.core.names.reference import short_digest
from delivery_chain.core.results import Published, RegionResult, TagMove
from delivery_chain.core.spec.filters import Destination, NotCovered, destination
from delivery_chain.core.steps import Step
from delivery_chain.errors import ConfigurationError, ContentMismatch, TagConflict
from delivery_chain.operators.base import leave, planned, pull, skip
from delivery_chain.operators.missing_image import check_there
from delivery_chain.operators.on_worker import WorkerOperator
from delivery_chain.operators.slots import SlotOperator
from delivery_chain.operators.task_memory import Memory
from delivery_chain.operators.verdict import passed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context

    from delivery_chain.core.plan import Plan
    from delivery_chain.oci.client import RegistryClient
    from delivery_chain.oci.copy.limits import Limits
    from delivery_chain.settings import Settings

UPLOADS = "uploads"
"""Key of the open upload sessions in the task's state store."""


class TaskState:
    """Open upload sessions in Airflow's task state, which outlives a try whose worker was killed. Implements `Resume`.

    Clearing the task forgets the sessions, so that users can get past one that the region refuses to resume. Complete
    blobs are found by digest either way. Requests with the region's credentials go to the sessions' addresses, so only
    sealed ones are trusted.
    """

    def __init__(self, context: Context) -> None:
        self._memory = Memory(context, UPLOADS)

    def load(self) -> Mapping[str, str]:
        """Return the sessions that the previous try left."""
        return self._memory.get() or {}

    def save(self, state: Mapping[str, str]) -> None:
        """Keep the sessions for the next try."""
        self._memory.set(dict(state))


def _limits(settings: Settings) -> Limits:
    """Return the limits that all replications on this worker share, across their processes."""
    from delivery_chain.oci.copy.worker_limits import WorkerLimits
    from delivery_chain.tools.work_folder import home

    rate = settings.registry_megabytes_per_second * 1e6
    folder = home(settings.work_folder) / "limits"
    return WorkerLimits(folder, requests=settings.registry_requests, rate=rate or None)


class ReplicateOperator(SlotOperator, WorkerOperator):
    """Copy the digest to one region, verify it there, and move the tags there."""

    def execute(self, context: Context) -> dict[str, Any]:
        """Return a RegionResult as JSON; the task is skipped if the rule does not cover this image.

        Raises:
            Unjudged: No gate of this run passed this digest. Not retryable.
            TagConflict: The target tag holds another digest and may not be moved. Not retryable.
            NotFound: The image is no longer in the home registry. Not retryable.
        """
        self.item(planned(context["ti"])[1])
        plan, spec, subject, _ = passed(context["ti"])
        published = pull(context["ti"], Step.PUBLISH, Published)
        if published is None or published.digest != subject.digest:
            raise ConfigurationError("this run's image is not published yet: clear the task `publish`")
        goal = destination(spec, spec.replicate[self.slot], plan.repository, published.held)
        if isinstance(goal, NotCovered):
            raise skip(goal.reason)
        with self.stoppable():
            result = self._copy(plan, goal, subject.digest, context)
        return leave(context, result)

    def _copy(self, plan: Plan, goal: Destination, digest: str, context: Context) -> RegionResult:
        from delivery_chain.hooks.registry import OciRegistryHook
        from delivery_chain.oci.copy.api import copy_image
        from delivery_chain.oci.copy.report import PacedLog
        from delivery_chain.settings import Settings

        began = time.monotonic()
        hook = OciRegistryHook(goal.connection)
        registry = hook.registry()
        progress = PacedLog(self.log.info)
        with OciRegistryHook(plan.instance).client() as home, hook.client() as target:
            check_there(home, plan, digest)
            # `thorough`: success means that every blob was seen there, even those of a manifest that already existed.
            done = copy_image(
                home, plan.name, digest, target, goal.name,
                limits=_limits(Settings.load()), resume=TaskState(context), on_progress=progress,
                thorough=True, left_behind=self.log.warning,
            )  # fmt: skip
            progress.close()
            judged = plan.build is not None
            moves = tuple(
                _mirror_tag(home, plan.name, target, goal, tag, digest, judged=judged) for tag in goal.tags
            )
        self.log.info(
            "%s/%s holds %s: %d blobs sent (%d bytes), %d present or mounted",
            registry.host,
            goal.name,
            digest,
            done.copied,
            done.bytes,
            done.mounted + done.skipped,
        )
        for move in moves:
            self.log.info("%s:%s %s, %s", goal.name, move.tag, move.state, short_digest(move.digest))
        return RegionResult(
            rule=goal.rule,
            region=registry.region or goal.connection,
            host=registry.host,
            name=goal.name,
            digest=digest,
            tags=moves,
            copied=done.copied,
            skipped=done.mounted + done.skipped,
            bytes=done.bytes,
            seconds=round(time.monotonic() - began, 3),
        )


def _mirror_tag(
    home: RegistryClient,
    name: str,
    target: RegistryClient,
    goal: Destination,
    tag: str,
    digest: str,
    *,
    judged: bool,
) -> TagMove:
    """Point a region's tag at what the home registry's tag holds.

    Two runs may replicate at once, and registries have no compare-and-swap. The home tag is the source of truth: it is
    read before and after, and a run that finds a newer digest there keeps or sets that one in the region. If a run is
    killed between the two reads, its retry does the same.

    Args:
        home: The home registry.
        name: Repository in the home registry.
        target: The region's registry.
        goal: The region's repository, and the rule.
        tag: The tag.
        digest: The image that this run copied.
        judged: Whether only chains move the home tag, so that a newer digest there has passed a gate. Otherwise a
            newer digest may not be judged yet, and its own run moves the tag.
    """
    before = target.head_manifest(goal.name, tag)
    previous = before.digest if before else ""
    wanted = _holder(home, name, tag)
    ours = wanted == digest
    if ours:
        _put(target, goal, tag, digest, overwrite=goal.override)
        wanted = _holder(home, name, tag)
    may_move = judged and (goal.override or (ours and not previous))
    if wanted not in ("", digest) and may_move and target.head_manifest(goal.name, wanted):
        _put(target, goal, tag, wanted, overwrite=True)
        return TagMove(tag=tag, state="kept", digest=wanted, previous=previous)
    if not ours:
        return TagMove(tag=tag, state="kept", digest=previous, previous=previous)
    state = "unchanged" if previous == digest else "moved"
    return TagMove(tag=tag, state=state, digest=digest, previous=previous)


def _put(target: RegistryClient, goal: Destination, tag: str, digest: str, *, overwrite: bool) -> None:
    """Set a region's tag and verify it.

    Raises:
        TagConflict: The rule or the registry forbids moving the tag. Not retryable.
        ContentMismatch: Another run moved the tag at the same moment. Retryable: the next try reads the home tag
            again.
    """
    from delivery_chain.oci.copy.api import put_tag

    try:
        put_tag(target, goal.name, tag, digest, overwrite=overwrite)
    except TagConflict as conflict:
        # A status means that the registry itself refused, and would refuse a retry, too.
        if not overwrite or conflict.status is not None:
            raise
        raise ContentMismatch(f"{conflict} A retry reads the home registry's tag again") from conflict


def _holder(client: RegistryClient, name: str, tag: str) -> str:
    found = client.head_manifest(name, tag)
    return found.digest if found else ""
