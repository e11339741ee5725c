"""What an image says of its origin, and whether a push was built before: asked of the registry. Pure.

Runs are rows that operators are told to delete (`airflow db clean`), and whoever tells of pushes may tell them again.
An image outlives both. One with the ref, commit and rule of a push, seen since the ref was last known to be at another
commit, is of this very push.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from delivery_chain.core.events.event import Kind
from delivery_chain.core.names.reference import short_digest
from delivery_chain.core.times import claimed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from delivery_chain.core.events.event import Event
    from delivery_chain.core.plan import Plan

PUSHED_AT = "dev.delivery-chain.pushed-at"
"""Annotation: when the source was pushed. A tag never goes back to an image with an earlier one."""
SEEN_AT = "dev.delivery-chain.seen-at"
"""Annotation: when the push was first seen, by our own clock."""
RUN = "dev.delivery-chain.run"
"""Annotation: Dag id and run id, so that staging tags of crashed runs are found."""
RULE = "dev.delivery-chain.rule"
"""Annotation: the build rule."""
TAGS = "dev.delivery-chain.tags"
"""Annotation: the tags that it was built for, with spaces between."""
FOR = "dev.delivery-chain.for"
"""Annotation: what it was built for, see `Purpose`."""
COMMIT = "org.opencontainers.image.revision"
REF = "org.opencontainers.image.ref.name"
NEVER = datetime.min.replace(tzinfo=UTC)

PUSH = "push"
"""For a push, or in place of one: it counts as that push's image."""
UNANNOUNCED = "push, unannounced"
"""The same without triggers: a push that fires them still has to."""
REBUILD = "rebuild"
"""An older commit, by hand: it says nothing of where the ref was, and never stands in the way of a push."""


def annotations_of(plan: Plan) -> dict[str, str]:
    """What an image says of its origin: keys of the OCI image spec, and ours.

    All of them are always there, for a base image may have the same ones, which builders hand down.
    """
    build = plan.build
    facts = {
        PUSHED_AT: plan.pushed_at.isoformat(),
        RUN: f"{plan.chain} {plan.run_id}",
        TAGS: " ".join(plan.tags),
    }
    if build:
        purpose = REBUILD if build.older else PUSH if plan.announce else UNANNOUNCED
        facts |= {
            SEEN_AT: (plan.seen_at or plan.pushed_at).isoformat(),
            RULE: build.rule,
            FOR: purpose,
            COMMIT: build.commit,
            REF: build.ref,
        }
    return facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an image of ours comes from, as it says itself."""

    digest: str
    ref: str
    commit: str
    rule: str
    """Empty for an image of a version that did not say it."""
    run: str
    """Dag id and run id."""
    purpose: str
    seen_at: datetime
    pushed_at: datetime

    @classmethod
    def read(cls, digest: str, annotations: Mapping[str, str], now: datetime) -> Origin | None:
        """What the annotations of an image say; None for one that no chain built.

        Times of the future and what is no time count as the beginning of time.
        """
        if not all(annotations.get(key) for key in (RUN, REF, COMMIT)):
            return None
        pushed_at = claimed(annotations.get(PUSHED_AT), now)
        return cls(
            digest=digest,
            ref=annotations[REF],
            commit=annotations[COMMIT],
            rule=annotations.get(RULE, ""),
            run=annotations[RUN],
            # An older version built nothing but these.
            purpose=annotations.get(FOR, PUSH),
            # An older version took no note of it; a sender's clock is near enough.
            seen_at=claimed(annotations[SEEN_AT], now) if SEEN_AT in annotations else pushed_at,
            pushed_at=pushed_at,
        )

    @property
    def run_id(self) -> str:
        """The run that built it."""
        return self.run.partition(" ")[2]


def is_own(plan: Plan, annotations: Mapping[str, str]) -> bool:
    """Whether an image that somebody pushed is one that the chain itself built, under a tag that it was built for.

    Registries tell of what a chain publishes, too. A copy that somebody makes under another tag is a push of its own.

    Args:
        plan: One about an image that is there.
        annotations: The image's.
    """
    chain = annotations.get(RUN, "").partition(" ")[0]
    return chain == plan.chain and {*plan.tags} <= {*annotations.get(TAGS, "").split(" ")}


def may_move(plan: Plan, held: Mapping[str, str], now: datetime) -> bool:
    """Whether a tag may move to what a plan builds: never back to an older push, and for a rebuild to no other commit.

    Args:
        plan: One that builds.
        held: Annotations of the image that holds the tag. What is not ours, claims the future, or was itself built of
            an older commit stands in no push's way.
        now: The present.
    """
    build = plan.build
    if build is not None and build.older:
        return (held.get(REF), held.get(COMMIT)) == (build.ref, build.commit)
    return held.get(FOR) == REBUILD or claimed(held.get(PUSHED_AT), now) <= plan.pushed_at


def same_push(plan: Plan, left: datetime | None, images: Iterable[Origin]) -> Origin | None:
    """The newest image of the push that a plan is for; None where there is none.

    Args:
        plan: One that builds.
        left: When the ref was last known to be elsewhere than at the plan's commit; None for never.
        images: What the registry holds under the tags that the plan gives, or gave at the commit before.
    """
    build = plan.build
    if build is None or build.older:
        return None
    of_ref = [
        one
        for one in images
        if one.ref == build.ref and one.rule in ("", build.rule) and one.purpose != REBUILD
    ]
    elsewhere = max((one.seen_at for one in of_ref if one.commit != build.commit), default=NEVER)
    since = max(left or NEVER, elsewhere)
    here = [one for one in of_ref if one.commit == build.commit and one.seen_at > since]
    return max(here, key=lambda one: one.seen_at, default=None)


def came_back(plan: Plan, images: Iterable[Origin]) -> datetime | None:
    """When the ref was last at another commit from which an image came, where that is after the plan's own push.

    Then the push was told late, or the word of a later one was lost. That the ref is at the plan's commit now, and
    after the registry was asked, makes this the newer one.
    """
    build = plan.build
    if build is None or build.older:
        return None
    seen = plan.seen_at or plan.pushed_at
    others = (
        max(one.seen_at, one.pushed_at)
        for one in images
        if one.ref == build.ref and one.commit != build.commit and one.purpose != REBUILD
    )
    newest = max(others, default=NEVER)
    return newest if newest >= min(seen, plan.pushed_at) else None


def is_again(plan: Plan, event: Event, image: Origin) -> bool:
    """Whether a push whose image is there was merely told again, so that nothing is left to do.

    It was not where a person asks for it, where the very run that built the image is cleared, and where the image was
    built without triggers and the push is to fire them.
    """
    itself = image.run == f"{plan.chain} {plan.run_id}" and image.seen_at >= (plan.seen_at or plan.pushed_at)
    quiet = image.purpose == UNANNOUNCED and plan.announce
    return event.kind is Kind.SOURCE_PUSH and not itself and not quiet


def told_again(plan: Plan, image: Origin) -> str:
    """The sentence for a push that was built before, with what a person may do who wants more of it."""
    build = plan.build
    assert build is not None  # noqa: S101 - for the type checker
    tag = plan.tags[0]
    again = f"delivery-chain trigger {plan.chain}"
    return (
        f"{build.ref} at {build.commit[:12]} was built before: {plan.name}@{short_digest(image.digest)} by run "
        f"{image.run_id}, pushed {image.pushed_at:%Y-%m-%d %H:%M} UTC. It is told again, so nothing is built, and no "
        f"tag moves. To send that image on once more: {again} --repository {plan.repository} --tag {tag}; to build it "
        f"anew: {again} --ref {build.ref}"
    )
