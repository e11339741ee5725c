"""Decides from a mark beside an image whether its push was delivered before, for images built elsewhere. Pure.

A chain that builds nothing writes no annotations into an image. After a delivery it attaches a mark in the home
registry instead: a referrer of the image, which outlives runs and Variables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from delivery_chain.core.events.built import NEVER, RUN, SEEN_AT
from delivery_chain.core.events.event import Kind
from delivery_chain.core.names.reference import short_digest
from delivery_chain.core.times import claimed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from delivery_chain.core.events.event import Event
    from delivery_chain.core.plan import Plan

MARK = "application/vnd.delivery-chain.delivered.v1+json"
"""Artifact type of a mark. Its content is empty; its annotations carry the facts."""
IMAGE = "dev.delivery-chain.place"
"""Annotation: the image's name in the chain, `registry.example.com/base/busybox:1.0`. A copy of the mark beside another
image proves nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A chain's record that it delivered an image under a tag."""

    digest: str
    """Digest of the image."""
    image: str
    """Name of the image, with registry and tag."""
    run: str
    """Dag id and run id."""
    seen_at: datetime

    @classmethod
    def read(cls, digest: str, annotations: Mapping[str, str], now: datetime) -> Mark | None:
        """Read a mark; None if it is incomplete. A time in the future is replaced by 1970."""
        if not all(annotations.get(key) for key in (IMAGE, RUN, SEEN_AT)):
            return None
        seen_at = claimed(annotations[SEEN_AT], now)
        return cls(digest=digest, image=annotations[IMAGE], run=annotations[RUN], seen_at=seen_at)

    @property
    def run_id(self) -> str:
        """Id of the run that delivered the image."""
        return self.run.partition(" ")[2]


def image_name(plan: Plan, host: str) -> str:
    """Name of a plan's image as its chain writes it, with registry and tag."""
    return f"{host}/{plan.name}:{plan.tags[0]}" if plan.tags else f"{host}/{plan.name}"


def says(plan: Plan, host: str) -> dict[str, str]:
    """Annotations of the mark that a run attaches to its image."""
    seen_at = plan.seen_at or plan.pushed_at
    return {
        IMAGE: image_name(plan, host),
        RUN: f"{plan.chain} {plan.run_id}",
        SEEN_AT: seen_at.isoformat(),
    }


def ours(plan: Plan, host: str, marks: Iterable[Mark]) -> tuple[Mark, ...]:
    """The marks that belong to the plan's chain and image."""
    image = image_name(plan, host)
    return tuple(one for one in marks if one.image == image and one.run.partition(" ")[0] == plan.chain)


def same_image(plan: Plan, left: datetime | None, marks: Iterable[Mark]) -> Mark | None:
    """The newest mark of the plan's own push; None if that push was not delivered yet.

    Args:
        plan: A plan for an existing image.
        left: When the tag was last known to point at another image; None for never.
        marks: From `ours`: those of the image, and of other images that the tag reportedly pointed at.
    """
    marks = tuple(marks)
    elsewhere = max((one.seen_at for one in marks if one.digest != plan.digest), default=NEVER)
    since = max(left or NEVER, elsewhere)
    here = [one for one in marks if one.digest == plan.digest and one.seen_at > since]
    return max(here, key=lambda one: one.seen_at, default=None)


def is_again(plan: Plan, event: Event, mark: Mark) -> bool:
    """Whether an event merely redelivers a push that was delivered, as opposed to a cleared run of that push."""
    itself = mark.run == f"{plan.chain} {plan.run_id}" and mark.seen_at >= (plan.seen_at or plan.pushed_at)
    return event.kind is Kind.IMAGE_PUSH and not itself


def times_before(plan: Plan, marks: Iterable[Mark]) -> int:
    """Count the earlier pushes of the image that were delivered under the run's id, by the marks of `ours`."""
    run, seen_at = f"{plan.chain} {plan.run_id}", plan.seen_at or plan.pushed_at
    return len(
        {
            one.seen_at
            for one in marks
            if (one.digest, one.run) == (plan.digest, run) and one.seen_at < seen_at
        }
    )


def told_again(plan: Plan, mark: Mark) -> str:
    """The sentence for a push that was delivered before, with the command that delivers it again."""
    about = f"--tag {plan.tags[0]}" if plan.tags else f"--digest {plan.digest}"
    return (
        f"{plan.title} at {short_digest(plan.digest)} was delivered before, by run {mark.run_id}. This is a "
        f"redelivery, so no trigger fires. To deliver it again: delivery-chain trigger {plan.chain} --repository "
        f"{plan.repository} {about}"
    )


def built_here(plan: Plan) -> str:
    """The sentence for an image that the chain itself built."""
    return f"{plan.title} at {short_digest(plan.digest)} was built by this chain itself: it is not a new push"
