"""Defines what an authentic webhook of any sender reports: moved refs and image tags, or why there are none."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from delivery_chain.core.events.push import Push
from delivery_chain.core.times import EPOCH, in_utc
from delivery_chain.core.value import Value


def _storable(text: Any) -> Any:
    """Drop NUL characters: PostgreSQL stores none, and the sender would retry the failing delivery forever."""
    return text.replace("\0", "") if isinstance(text, str) else text


Text = Annotated[str, Field(max_length=200), BeforeValidator(_storable)]
MOST_PUSHES = 5000
"""Maximum number of pushes per notification. Bitbucket and GitLab truncate theirs far earlier."""


class Notification(Value):
    """One webhook request, verified and parsed."""

    event: Text
    """The sender's name of the event: `push`, `ping`, `Merge Request Hook`."""
    delivery_id: Text
    """Unique per event, and the same for each redelivery of it."""
    hook: Text = ""
    """The webhook that sent it, if known: two webhooks of a sender may report the same push."""
    repositories: tuple[Annotated[str, Field(max_length=2000)], ...] = Field(default=(), max_length=20)
    """All names by which the sender calls the git repository: clone URLs and full names."""
    pushes: tuple[Push, ...] = Field(default=(), max_length=MOST_PUSHES)
    actor: Text = ""
    """Person or account that pushed."""
    pushed_at: datetime | None = None
    """Time of the push by the sender's clock, if given; in UTC."""
    ignored: str = ""
    """Reason for ignoring the event: `a ping`, `pull requests start no chain`. Empty otherwise."""

    @field_validator("pushed_at")
    @classmethod
    def _possible(cls, time: datetime | None) -> datetime | None:
        found = in_utc(time) if time else None
        return found if found and found > EPOCH else None
