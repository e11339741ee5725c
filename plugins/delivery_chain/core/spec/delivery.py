"""Replication rules and triggers of the chain spec: where images are copied to, and which systems are notified."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from delivery_chain.core.spec.types import ConnectionId, Flag, Regexp, RepositoryName, Slug, TagText
from delivery_chain.core.value import Value


class Level(StrEnum):
    """Coverage of a replication rule."""

    NAMESPACE = "namespace"
    REPOSITORY = "repository"


class Rename(Value):
    """New name at the destination."""

    namespace: RepositoryName | None = None
    repository: RepositoryName | None = None


class ReplicateRule(Value):
    """Copies images to a region."""

    name: Slug
    to: ConnectionId
    """Airflow connection of type `oci_registry`: the destination."""
    level: Level = Level.REPOSITORY
    repository: RepositoryName | None = None
    """With level repository; may be omitted if the scope has just one."""
    repositories: Regexp | None = None
    """With level namespace: copy only repositories whose whole name matches."""
    tags: Regexp = ".*"
    """Copy only tags that match as a whole."""
    rename: Rename = Field(default=Rename(), alias="as")
    """Target namespace and repository; the source's by default."""
    override: Flag = True
    """`false`: a target tag with another digest is left unchanged and the task fails with TAG_CONFLICT."""

    @model_validator(mode="after")
    def _fits_level(self) -> Self:
        if self.level is Level.NAMESPACE and self.repository:
            raise ValueError("`repository` goes with level repository; level namespace has `repositories`")
        if self.level is Level.REPOSITORY and self.repositories:
            raise ValueError("`repositories` goes with level namespace")
        return self


class TagFilter(Value):
    """Tags that a trigger fires for."""

    regexp: Regexp | None = None
    tags: tuple[TagText, ...] = ()

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.regexp is None) == (not self.tags):
            raise ValueError("expected `all`, {regexp: …} or {tags: […]}")
        return self


def _which_form(value: Any) -> str:
    return "TagFilter" if isinstance(value, dict | TagFilter) else "All"


def _only_all(value: Any) -> Any:
    if value == "all":
        return value
    meant = ""
    if isinstance(value, str):
        meant = f"; as a pattern: {{regexp: {value!r:.120}}}"
    elif isinstance(value, list):
        meant = f"; as a list: {{tags: {value!r:.120}}}"
    found = str(value).lower() if isinstance(value, bool) else f"{value!r:.120}"
    raise ValueError(f"expected `all`, {{regexp: …}} or {{tags: […]}}, found {found}{meant}")


OnTags = Annotated[
    Annotated[Literal["all"], BeforeValidator(_only_all), Tag("All")]
    | Annotated[TagFilter, Tag("TagFilter")],
    Discriminator(_which_form),
]
"""Chooses one form first, so that a mistake is reported once and not once per form."""


class Trigger(Value):
    """Notifies a target once the image is in its regions."""

    name: Slug
    url_connection: ConnectionId
    """Airflow connection of type `delivery_webhook`: address and secrets."""
    on: OnTags = "all"
    """Tags that it fires for: one delivery per tag."""
    method: Literal["POST", "GET"] = "POST"
    """`GET` is for redeploy addresses that require it; it sends no body."""
    after: tuple[Slug, ...] | None = None
    """Replication rules whose regions must have the image first; all by default, `[]` for none."""

    @property
    def kind(self) -> str:
        """Kind of the trigger's target. Webhooks are the only kind so far, so specs have no key for it."""
        return "webhook"
