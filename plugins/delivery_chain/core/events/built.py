"""Annotates images with their origin, and decides from those annotations whether a push was built before. Pure.

Runs are database rows that administrators routinely delete (`airflow db clean`), and senders redeliver pushes. Images
outlive both. If an image has the ref, commit and rule of a push, and was first seen after the ref was last known to be
at another commit, it was built for that push.
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
"""Annotation: when the source was pushed. A tag never moves back to an image with an earlier time."""
SEEN_AT = "dev.delivery-chain.seen-at"
"""Annotation: when the push was first seen, by the clock of this installation."""
RUN = "dev.delivery-chain.run"
"""Annotation: Dag id and run id, by which staging tags of crashed runs are found."""
RULE = "dev.delivery-chain.rule"
"""Annotation: the build rule."""
TAGS = "dev.delivery-chain.tags"
"""Annotation: the tags that the image was built for, separated by spaces."""
FOR = "dev.delivery-chain.for"
"""Annotation: the purpose of the build: `PUSH`, `UNANNOUNCED` or `REBUILD`."""
COMMIT = "org.opencontainers.image.revision"
REF = "org.opencontainers.image.ref.name"
NEVER = datetime.min.replace(tzinfo=UTC)

PUSH = "push"
"""Built for a push, or in place of one: it counts as that push's image."""
UNANNOUNCED = "push, unannounced"
"""The same without triggers: a later push still has to fire them."""
REBUILD = "rebuild"
"""An older commit, built by hand: no evidence of where the ref was, and never an obstacle to a push."""


def annotations_of(plan: Plan) -> dict[str, str]:
    """Annotations that record an image's origin: keys of the OCI image spec, and our own.

    All are always set, because builders inherit annotations of the base image, which may have the same keys.
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
    """The origin of an image that a chain built, as its annotations claim."""

    digest: str
    ref: str
    commit: str
    rule: str
    """Empty for an image of a version that did not record it."""
    run: str
    """Dag id and run id."""
    purpose: str
    seen_at: datetime
    pushed_at: datetime

    @classmethod
    def read(cls, digest: str, annotations: Mapping[str, str], now: datetime) -> Origin | None:
        """Read an image's annotations; None for an image that no chain built.

        Times in the future and malformed times are replaced by 1970.
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
            # An older version built for pushes only.
            purpose=annotations.get(FOR, PUSH),
            # An older version did not record it; the sender's clock is close enough.
            seen_at=claimed(annotations[SEEN_AT], now) if SEEN_AT in annotations else pushed_at,
            pushed_at=pushed_at,
        )

    @property
    def run_id(self) -> str:
        """Id of the run that built the image."""
        return self.run.partition(" ")[2]


def is_own(plan: Plan, annotations: Mapping[str, str]) -> bool:
    """Whether a pushed image is one that the chain itself built, under a tag that it was built for.

    Registries also report what a chain publishes. A copy under another tag is a push of its own.

    Args:
        plan: A plan for an existing image.
        annotations: Annotations of the image.
    """
    chain = annotations.get(RUN, "").partition(" ")[0]
    return chain == plan.chain and {*plan.tags} <= {*annotations.get(TAGS, "").split(" ")}


def may_move(plan: Plan, held: Mapping[str, str], now: datetime) -> bool:
    """Whether a tag may move to a plan's image: never back to an older push, and for a rebuild only at the same commit.

    Args:
        plan: A plan that builds.
        held: Annotations of the image that the tag points at now. An image that others built, one with a time in the
            future, and a rebuild of an older commit never block a push.
        now: The current time.
    """
    build = plan.build
    if build is not None and build.older:
        return (held.get(REF), held.get(COMMIT)) == (build.ref, build.commit)
    return held.get(FOR) == REBUILD or claimed(held.get(PUSHED_AT), now) <= plan.pushed_at


def same_push(plan: Plan, left: datetime | None, images: Iterable[Origin]) -> Origin | None:
    """The newest image of the plan's own push; None if that push was not built yet.

    Args:
        plan: A plan that builds.
        left: When the ref was last known to be at a commit other than the plan's; None for never.
        images: Images that the registry has under the plan's tags, for this commit or the previous one.
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
    """The time when the ref was last at another commit that was built, if that is after the plan's own push.

    In this case, the push was reported late, or a later push was never reported. The ref was found at the plan's commit
    after the registry was queried, so this push is the newer one.
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
    """Whether an event merely redelivers a push whose image exists, so that the run has nothing to do.

    It does not if a person asks for the run, if the run that built the image itself is cleared, or if the image was
    built without triggers and the push should fire them.
    """
    itself = image.run == f"{plan.chain} {plan.run_id}" and image.seen_at >= (plan.seen_at or plan.pushed_at)
    quiet = image.purpose == UNANNOUNCED and plan.announce
    return event.kind is Kind.SOURCE_PUSH and not itself and not quiet


def told_again(plan: Plan, image: Origin) -> str:
    """The sentence for a push that was built before, with the commands that deliver or build it again."""
    build = plan.build
    assert build is not None  # noqa: S101 - for the type checker
    tag = plan.tags[0]
    again = f"delivery-chain trigger {plan.chain}"
    return (
        f"{build.ref} at {build.commit[:12]} was built before: {plan.name}@{short_digest(image.digest)} by run "
        f"{image.run_id}, pushed {image.pushed_at:%Y-%m-%d %H:%M} UTC. This is a redelivery, so nothing is built and "
        f"no tag moves. To deliver that image again: {again} --repository {plan.repository} --tag {tag}; to rebuild "
        f"it: {again} --ref {build.ref}"
    )
