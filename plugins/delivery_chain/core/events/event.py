"""What starts a run. An event is the run's `conf`: the trigger form, the CLI, REST and the sensors all write it."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from delivery_chain.core.names.git_ref import check_ref, short_ref
from delivery_chain.core.names.reference import check_digest, check_name, check_tag
from delivery_chain.core.times import EPOCH, in_utc
from delivery_chain.core.value import Value
from delivery_chain.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

WEBHOOK = "webhook "
"""What the names of our senders begin with, as the runs' triggering users too."""
COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Kind(StrEnum):
    """Who speaks."""

    SOURCE_PUSH = "source_push"
    IMAGE_PUSH = "image_push"
    MANUAL = "manual"


def _commit(commit: str) -> str:
    if not COMMIT.fullmatch(commit):
        raise ValueError(f"expected a full commit id of 40 hex digits, found {commit[:100]!r}")
    return commit


def _commit_or_digest(where: str) -> str:
    return _commit(where) if COMMIT.fullmatch(where) else check_digest(where)


def _optional(check: Any) -> AfterValidator:
    return AfterValidator(lambda value: check(value) if value else value)


class Event(Value):
    """One push, one image or one person's wish; empty text means not said."""

    kind: Kind = Kind.MANUAL
    repository: Annotated[str, _optional(check_name)] = ""
    """Repository of the chain's scope, without the namespace."""
    rule: Annotated[str, Field(max_length=64)] = ""
    """Build rule, where the sender knows it."""
    ref: Annotated[str, _optional(check_ref)] = ""
    """`refs/heads/…` or `refs/tags/…`; a person may give the short name."""
    commit: Annotated[str, _optional(_commit)] = ""
    """Full commit id that the ref points at; where it is left out, the run takes what is there."""
    previous: Annotated[str, _optional(_commit)] = ""
    """What the ref pointed at before, where that is known."""
    tag: Annotated[str, _optional(check_tag)] = ""
    """Image tag, for an image that is there already."""
    digest: Annotated[str, _optional(check_digest)] = ""
    """Image digest, instead of the tag or together with it."""
    pushed_at: datetime | None = None
    """When the push happened by the sender's clock, or when it was first seen."""
    seen_at: datetime | None = None
    """When we first saw it, by our own clock."""
    left: datetime | None = None
    """When the ref was last seen at another commit, or deleted, by our own clock; left out for never.

    An image of the same ref and commit that was seen after that is of this very push.
    """
    elsewhere: Annotated[
        tuple[Annotated[str, AfterValidator(_commit_or_digest)], ...], Field(max_length=8)
    ] = ()
    """Other commits or digests that the ref or tag was last told to be at: what came of them, the registry knows."""
    actor: Annotated[str, Field(max_length=200)] = ""
    """Who pushed or asked, for people to read."""
    sender: Annotated[str, Field(max_length=200)] = ""
    """`sensor`, or the name of a webhook's sender."""
    delivery_id: Annotated[str, Field(max_length=200)] = ""
    """The sender's own id of this event."""
    announce: bool = True
    """`false`: no trigger fires, as for images that were there before a replication rule was."""

    @field_validator("pushed_at", "seen_at", "left")
    @classmethod
    def _utc(cls, time: datetime | None) -> datetime | None:
        if time is None:
            return None
        found = in_utc(time)
        if found < EPOCH:
            raise ValueError(f"expected a time after 1970, found {time.isoformat()}")
        return found

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.kind is Kind.SOURCE_PUSH and not (self.ref and self.commit):
            raise ValueError("a source push names its `ref` and `commit`")
        if self.kind is Kind.IMAGE_PUSH and not (self.repository and (self.tag or self.digest)):
            raise ValueError("an image push names its `repository` and `tag` or `digest`")
        if self.ref and (self.tag or self.digest):
            raise ValueError(
                "either a git `ref` to build, or an image's `tag` or `digest` that is there already"
            )
        return self

    @classmethod
    def from_conf(cls, conf: Mapping[str, Any]) -> Self:
        """Read a run's `conf`; a form's empty fields count as not said.

        Raises:
            UsageError: With every wrong field.
        """
        said = {key: value.strip() if isinstance(value, str) else value for key, value in conf.items()}
        try:
            return cls.model_validate({key: value for key, value in said.items() if value not in ("", None)})
        except ValidationError as error:
            lines = [f"{name or 'conf'}: {problem}" for name, problem in _problems(error)]
            raise UsageError("this run's configuration is not an event:\n" + "\n".join(lines)) from error

    def to_conf(self) -> dict[str, Any]:
        """A run's `conf`, without what is not said: the trigger form's choices take no empty text."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @property
    def is_image(self) -> bool:
        """Whether it is about an image that is there already."""
        return bool(self.tag or self.digest)


def event_of_options(said: Mapping[str, Any], options: Mapping[str, str]) -> Event:
    """The event that a command line describes.

    Args:
        said: Fields; empty text means not said.
        options: By field the name of the option that gives it, without its dashes.

    Raises:
        UsageError: With every wrong option by its own name.
    """
    try:
        return Event.model_validate({key: value for key, value in said.items() if value not in ("", None)})
    except ValidationError as error:
        lines = [
            f"--{options[name]}: {problem}" if name in options else problem
            for name, problem in _problems(error)
        ]
        raise UsageError("\n".join(dict.fromkeys(lines))) from error


def _problems(error: ValidationError) -> list[tuple[str, str]]:
    """Field and what is wrong with it; an empty field for what is wrong with several together."""
    return [
        (".".join(map(str, item["loc"])), item["msg"].removeprefix("Value error, "))
        for item in error.errors()
    ]


def actor_of(event: Event, user: str) -> str:
    """Who is named as the one who pushed or asked, for people to read.

    Whoever may start runs writes their `conf`. Airflow itself says who started one, so a person speaks for others under
    their own name alone; our webhooks and sensors are believed.

    Args:
        event: From the run's `conf`.
        user: Airflow's `triggering_user_name` of the run: a person, `webhook …` as the sender that our receiver puts
            into the event, or empty for a run that a sensor started.
    """
    by_us = not user or (user.startswith(WEBHOOK) and user == event.sender)
    if by_us or event.actor in {"", user}:
        return event.actor or user
    return f"{event.actor}, says {user}"


def push_run_id(*, ref: str, commit: str, rule: str, visit: int) -> str:
    """The run's id for a push: readable, the same for whoever sees the push, and new when a ref comes back to a commit.

    Args:
        ref: Full ref.
        commit: What it points at now.
        rule: Build rule that matched; several matches make several runs.
        visit: Which of the ref's stays at this commit, counted from 1; see `delivery_chain.core.events.dedupe`.

    Returns:
        At most 200 characters of those that Airflow takes in a run id.
    """
    kind, name = short_ref(ref)
    return f"{kind or 'ref'}__{_readable(name)}__{commit[:12]}__{rule}__{_unique(ref, commit, rule, visit)}"


def image_run_id(*, name: str, tag: str, digest: str, visit: int) -> str:
    """The same for an image.

    Args:
        name: Repository, with its namespace.
        tag: Its tag; empty for one that was pushed by its digest.
        digest: What the tag points at now.
        visit: Which of the tag's stays at this digest, counted from 1.
    """
    short = digest.partition(":")[2][:12]
    readable = f"{name.rpartition('/')[2]}-{tag}" if tag else name.rpartition("/")[2]
    return f"image__{_readable(readable)}__{short}__{_unique(name, tag, digest, visit)}"


def _readable(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+|\.{2,}", "-", name)[:80]


def _unique(*parts: str | int) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:8]
