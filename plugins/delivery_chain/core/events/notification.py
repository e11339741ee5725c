"""What one authentic webhook says, whoever sent it: the refs and image tags that moved, or why it names none."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field, field_validator

from delivery_chain.core.events.push import Push
from delivery_chain.core.times import EPOCH, in_utc
from delivery_chain.core.value import Value

Text = Annotated[str, Field(max_length=200)]
MOST_PUSHES = 5000
"""Pushes of one notification. Bitbucket and GitLab cut theirs far earlier."""


class Notification(Value):
    """One webhook request, verified and read."""

    event: Text
    """The sender's own word for it: `push`, `ping`, `Merge Request Hook`."""
    delivery_id: Text
    """The same for each redelivery of the same event, and for nothing else."""
    hook: Text = ""
    """Which of the sender's webhooks sent it, where it says so: two of them may report the same push."""
    repositories: tuple[Annotated[str, Field(max_length=2000)], ...] = Field(default=(), max_length=20)
    """All the ways in which the sender names the git repository: clone URLs and full names."""
    pushes: tuple[Push, ...] = Field(default=(), max_length=MOST_PUSHES)
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
