"""Letting an image out: the user's tags, the regions, and what is done with a blocked image instead."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from delivery_chain.core.filters import Destination, destination
from delivery_chain.core.gate import Verdict
from delivery_chain.core.reference import short_digest
from delivery_chain.core.results import Published, RegionResult, TagMove
from delivery_chain.errors import ConfigurationError, ContentMismatch, TagConflict
from delivery_chain.operators.base import ChainOperator, passed, pull, skip
from delivery_chain.operators.build import PUSHED_AT
from delivery_chain.operators.links import RegistryLink

if TYPE_CHECKING:
    from delivery_chain.core.plan import Plan


class PublishOperator(ChainOperator):
    """Moves the user's tags to the digest that the gate passed. A tag never goes back to an older push."""

    operator_extra_links = (RegistryLink(),)

    def execute(self, context: Any) -> dict[str, Any]:
        """Return a Published as JSON.

        Raises:
            Unjudged: No gate of this run passed this digest. Not retryable.
        """
        plan, _, subject, _ = passed(context["ti"])
        from delivery_chain.hooks.registry import OciRegistryHook

        first = plan.tags[0] if plan.tags else ""
        url = OciRegistryHook(plan.instance).ui_url(plan.namespace, plan.repository, first, subject.digest)
        context["ti"].xcom_push("registry_url", url)
        if plan.build is None:
            self.log.info("The image was pushed by others: its tags are there already")
            moves = tuple(TagMove(tag=t, state="unchanged", digest=subject.digest) for t in plan.tags)
            return Published(digest=subject.digest, tags=moves).to_xcom()
        with OciRegistryHook(plan.instance).client() as client:
            moves = tuple(move_tag(client, plan, tag, subject.digest) for tag in plan.tags)
        for move in moves:
            self.log.info("%s:%s %s, %s", plan.name, move.tag, move.state, short_digest(move.digest))
        return Published(digest=subject.digest, tags=moves).to_xcom()


def move_tag(client: Any, plan: Plan, tag: str, digest: str) -> TagMove:
    """Point one tag of the home registry at `digest`, unless a newer push holds it."""
    from delivery_chain.oci.copy import put_tag

    found = client.head_manifest(plan.name, tag)
    if found is not None and found.digest == digest:
        return TagMove(tag=tag, state="unchanged", digest=digest, previous=digest)
    if found is not None and _pushed_at(client, plan.name, found.digest) > plan.pushed_at:
        return TagMove(tag=tag, state="kept", digest=found.digest, previous=found.digest)
    put_tag(client, plan.name, tag, digest)
    return TagMove(tag=tag, state="moved", digest=digest, previous=found.digest if found else "")


def _pushed_at(client: Any, name: str, digest: str) -> datetime:
    """When the push of an image happened; the beginning of time for images that are not ours."""
    text = client.get_manifest(name, digest).annotations.get(PUSHED_AT, "")
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)


class ReplicateOperator(ChainOperator):
    """Copies the digest to one region, verifies it there, and moves the tags there."""

    def __init__(self, *, rule: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rule = rule

    def execute(self, context: Any) -> dict[str, Any]:
        """Return a RegionResult as JSON; skipped where the rule is not for this image.

        Raises:
            Unjudged: No gate of this run passed this digest. Not retryable.
            TagConflict: The target tag holds another digest and may not be moved. Not retryable.
        """
        plan, spec, subject, _ = passed(context["ti"])
        published = pull(context["ti"], "publish", Published)
        if published is None:
            raise ConfigurationError("this run published nothing yet: clear the task `publish`")
        rules = {rule.name: rule for rule in spec.replicate}
        if self.rule not in rules:
            raise skip(f"rule {self.rule!r} came after this run's plan was made")
        goal = destination(spec, rules[self.rule], plan.repository, published.held)
        if isinstance(goal, str):
            raise skip(goal)
        return self._copy(plan, goal, subject.digest).to_xcom()

    def _copy(self, plan: Plan, goal: Destination, digest: str) -> RegionResult:
        from delivery_chain.hooks.registry import OciRegistryHook
        from delivery_chain.oci.copy import copy_image

        began = time.monotonic()
        hook = OciRegistryHook(goal.connection)
        registry = hook.registry()
        with OciRegistryHook(plan.instance).client() as home, hook.client() as target:
            done = copy_image(home, plan.name, digest, target, goal.name)
            moves = tuple(_mirror_tag(home, plan.name, target, goal, tag, digest) for tag in goal.tags)
        self.log.info(
            "%s/%s holds %s: %d blobs sent (%d bytes), %d there or mounted",
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


def _mirror_tag(home: Any, name: str, target: Any, goal: Destination, tag: str, digest: str) -> TagMove:
    """Give a region's tag what the home registry's tag holds.

    Two runs may replicate at once; registries can't compare and set. The home tag is the truth: it is read before
    and after, and whoever finds a newer digest there leaves or puts that one. So does a retry of a run that was
    killed between the two.
    """
    before = target.head_manifest(goal.name, tag)
    previous = before.digest if before else ""
    wanted = _holder(home, name, tag)
    ours = wanted == digest
    if ours:
        _put(target, goal, tag, digest, overwrite=goal.override)
        wanted = _holder(home, name, tag)
    may_move = goal.override or (ours and not previous)
    if wanted not in ("", digest) and may_move and target.head_manifest(goal.name, wanted):
        _put(target, goal, tag, wanted, overwrite=True)
        return TagMove(tag=tag, state="kept", digest=wanted, previous=previous)
    if not ours:
        return TagMove(tag=tag, state="kept", digest=previous, previous=previous)
    state = "unchanged" if previous == digest else "moved"
    return TagMove(tag=tag, state=state, digest=digest, previous=previous)


def _put(target: Any, goal: Destination, tag: str, digest: str, *, overwrite: bool) -> None:
    """Set a region's tag and see that it is set.

    Raises:
        TagConflict: The rule or the registry does not let it move. Not retryable.
        ContentMismatch: Another run moved it at the same moment. Retryable: the next try asks home again.
    """
    from delivery_chain.oci.copy import put_tag

    try:
        put_tag(target, goal.name, tag, digest, overwrite=overwrite)
    except TagConflict as conflict:
        # A status is the registry's own refusal, which a retry would get again.
        if not overwrite or conflict.status is not None:
            raise
        raise ContentMismatch(f"{conflict} A retry asks the home registry again") from conflict


def _holder(client: Any, name: str, tag: str) -> str:
    found = client.head_manifest(name, tag)
    return found.digest if found else ""


def blocked_verdict(ti: Any) -> Verdict:
    """The verdict of a run whose gate refused the image.

    Raises:
        AirflowSkipException: The gate passed it: there is nothing to block.
        ConfigurationError: There is no verdict, so nobody knows. Not retryable.
    """
    verdict = pull(ti, "gate", Verdict)
    if verdict is None:
        raise ConfigurationError("this run has no verdict: clear the task `gate`, so that it runs again")
    if verdict.passed:
        raise skip("the gate of this run passed the image")
    return verdict
