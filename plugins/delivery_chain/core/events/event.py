"""Defines the event that starts a run: the run's `conf`, whether from the trigger form, the CLI, REST or a sensor."""

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
"""Prefix of the `sender` of events from webhooks, and of the triggering users of their runs."""
COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Kind(StrEnum):
    """The origin of an event: a git push, an image push, or a person."""

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
    """One push, one image or one person's request; an empty string means that the field is not given."""

    kind: Kind = Kind.MANUAL
    repository: Annotated[str, _optional(check_name)] = ""
    """Repository in the chain's scope, without the namespace."""
    rule: Annotated[str, Field(max_length=64)] = ""
    """Build rule, if the sender knows it."""
    ref: Annotated[str, _optional(check_ref)] = ""
    """`refs/heads/…` or `refs/tags/…`; a person may give the short name."""
    commit: Annotated[str, _optional(_commit)] = ""
    """Full id of the commit that the ref points at; by default the run resolves the ref itself."""
    previous: Annotated[str, _optional(_commit)] = ""
    """Commit that the ref pointed at before, if known."""
    tag: Annotated[str, _optional(check_tag)] = ""
    """Tag of an existing image."""
    digest: Annotated[str, _optional(check_digest)] = ""
    """Digest of an existing image, instead of the tag or together with it."""
    pushed_at: datetime | None = None
    """Time of the push by the sender's clock, or time at which it was first seen."""
    seen_at: datetime | None = None
    """Time at which the push was first seen, by the clock of this installation."""
    left: datetime | None = None
    """Time at which the ref was last seen at another commit, or deleted, by the same clock; omitted for never.

    An image of the same ref and commit that was seen after that belongs to this push.
    """
    elsewhere: Annotated[
        tuple[Annotated[str, AfterValidator(_commit_or_digest)], ...], Field(max_length=8)
    ] = ()
    """Other commits or digests last reported for the ref or tag; the registry knows whether they were built."""
    actor: Annotated[str, Field(max_length=200)] = ""
    """Person who pushed or triggered the run, for display."""
    sender: Annotated[str, Field(max_length=200)] = ""
    """`sensor`, or the name of a webhook's sender."""
    delivery_id: Annotated[str, Field(max_length=200)] = ""
    """The sender's id of this event."""
    announce: bool = True
    """`false`: no trigger fires, as in a backfill of images that are older than a replication rule."""

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
            raise ValueError("a source push requires `ref` and `commit`")
        if self.kind is Kind.IMAGE_PUSH and not (self.repository and (self.tag or self.digest)):
            raise ValueError("an image push requires `repository`, and `tag` or `digest`")
        if self.ref and (self.tag or self.digest):
            raise ValueError(
                "expected either a git `ref` to build, or the `tag` or `digest` of an existing image; found both"
            )
        return self

    @classmethod
    def from_conf(cls, conf: Mapping[str, Any]) -> Self:
        """Read a run's `conf`; empty fields of the form count as not given.

        Raises:
            UsageError: Lists every invalid field.
        """
        said = {key: value.strip() if isinstance(value, str) else value for key, value in conf.items()}
        try:
            return cls.model_validate({key: value for key, value in said.items() if value not in ("", None)})
        except ValidationError as error:
            lines = [f"{name or 'conf'}: {problem}" for name, problem in _problems(error)]
            raise UsageError("the run's configuration is not a valid event:\n" + "\n".join(lines)) from error

    def to_conf(self) -> dict[str, Any]:
        """A run's `conf`, without defaults: the trigger form's choices accept no empty string."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @property
    def is_image(self) -> bool:
        """Whether the event is about an existing image."""
        return bool(self.tag or self.digest)


def event_of_options(said: Mapping[str, Any], options: Mapping[str, str]) -> Event:
    """The event that a command line describes.

    Args:
        said: The event's fields; an empty string means that a field is not given.
        options: Maps a field to the name of its option, without the dashes.

    Raises:
        UsageError: Lists every invalid option by its name.
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
    """Pairs of field and problem; the field is empty for a problem that concerns several fields."""
    return [
        (".".join(map(str, item["loc"])), item["msg"].removeprefix("Value error, "))
        for item in error.errors()
    ]


def actor_of(event: Event, user: str) -> str:
    """The person to display as the one who pushed or triggered the run.

    Anyone who may trigger runs chooses their `conf`, but Airflow itself records who triggered them. So an actor that
    a person claims is shown with that person's name; an actor from this package's webhooks and sensors is trusted.

    Args:
        event: From the run's `conf`.
        user: Airflow's `triggering_user_name` of the run: a person, `webhook …` as the receiver also writes it to
            the event's `sender`, or empty for a run that a sensor started.
    """
    by_us = not user or (user.startswith(WEBHOOK) and user == event.sender)
    if by_us or event.actor in {"", user}:
        return event.actor or user
    return f"{event.actor}, says {user}"


def push_run_id(*, ref: str, commit: str, rule: str, visit: int) -> str:
    """The id of a push's run: readable, the same for every observer, and new when a ref returns to a commit.

    Args:
        ref: Full ref.
        commit: Commit that it points at now.
        rule: Build rule that matched; a push that matches several rules has a run for each.
        visit: Number of the ref's stay at this commit, counted from 1; see `delivery_chain.core.events.dedupe`.

    Returns:
        At most 200 characters, all allowed by Airflow in a run id.
    """
    kind, name = short_ref(ref)
    return f"{kind or 'ref'}__{_readable(name)}__{commit[:12]}__{rule}__{_unique(ref, commit, rule, visit)}"


def image_run_id(*, name: str, tag: str, digest: str, visit: int) -> str:
    """The id of an image push's run; see `push_run_id`.

    Args:
        name: Repository, with its namespace.
        tag: Tag; empty for an image pushed by digest.
        digest: Digest that the tag points at now.
        visit: Number of the tag's stay at this digest, counted from 1.
    """
    short = digest.partition(":")[2][:12]
    readable = f"{name.rpartition('/')[2]}-{tag}" if tag else name.rpartition("/")[2]
    return f"image__{_readable(readable)}__{short}__{_unique(name, tag, digest, visit)}"


def _readable(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+|\.{2,}", "-", name)[:80]


def _unique(*parts: str | int) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:8]
