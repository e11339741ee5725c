"""What one authentic webhook says, whoever sent it: refs that moved, images that were pushed, or why it is neither."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field, field_validator

from delivery_chain.core.names.git_ref import check_ref
from delivery_chain.core.names.reference import check_digest, check_name, check_tag
from delivery_chain.core.times import EPOCH, in_utc
from delivery_chain.core.value import Value

# pydantic's regexes are those of Rust: `$` is the end of the text, not also the line break before it.
Commit = Annotated[str, Field(pattern=r"^(?:[0-9a-f]{40}|[0-9a-f]{64})?$")]
"""A full commit id; empty for none."""
Text = Annotated[str, Field(max_length=200)]
MOST_PUSHES = 5000
"""Refs or images of one delivery. Bitbucket and GitLab cut theirs far earlier."""


def _optional_tag(tag: str) -> str:
    return check_tag(tag) if tag else tag


def _optional_digest(digest: str) -> str:
    return check_digest(digest) if digest else digest


class RefPush(Value):
    """A branch or tag that moved."""

    ref: Annotated[str, AfterValidator(check_ref)]
    """Full name: `refs/heads/…` or `refs/tags/…`."""
    before: Commit | None = None
    """What it pointed at; empty for a new ref, None where the sender does not say."""
    after: Commit
    """What it points at; empty for a ref that was deleted."""
    peeled: bool = True
    """Whether `after` is a commit for sure; False for a tag that may be an annotated one, which the sender gives by the
    tag object's id."""


class ImagePush(Value):
    """An image that was pushed under a tag, or by its digest alone."""

    name: Annotated[str, AfterValidator(check_name)]
    """Repository in the registry, with its namespace: `shop/api`."""
    tag: Annotated[str, AfterValidator(_optional_tag)] = ""
    digest: Annotated[str, AfterValidator(_optional_digest)] = ""
    """Empty where the sender does not say."""


class Delivery(Value):
    """One request of a sender, verified and read."""

    event: Text
    """The sender's own word for it: `push`, `ping`, `Merge Request Hook`."""
    delivery_id: Text
    """The same for each redelivery of the same event, and for nothing else."""
    hook: Text = ""
    """Which of the sender's webhooks sent it, where it says so: two of them may tell the same push."""
    places: tuple[Annotated[str, Field(max_length=2000)], ...] = Field(default=(), max_length=20)
    """All the ways in which the sender names the git repository: clone URLs and full names."""
    pushes: tuple[RefPush, ...] = Field(default=(), max_length=MOST_PUSHES)
    images: tuple[ImagePush, ...] = Field(default=(), max_length=MOST_PUSHES)
    actor: Text = ""
    """Who pushed."""
    pushed_at: datetime | None = None
    """When, by the sender's clock, where it says so; in UTC."""
    ignored: str = ""
    """Why there is nothing to do: `a ping`, `pull requests start no chain`. Empty otherwise."""

    @field_validator("pushed_at")
    @classmethod
    def _possible(cls, time: datetime | None) -> datetime | None:
        found = in_utc(time) if time else None
        return found if found and found > EPOCH else None
