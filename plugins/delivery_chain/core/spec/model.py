"""Model of the chain spec. `docs/chain-spec.md` explains each field; `delivery` and `scan` model two of the sections.

The model follows ACR EE's delivery chain. Everything is validated here once, and trusted afterwards.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from delivery_chain.core.names.git_ref import BRANCHES, TAGS
from delivery_chain.core.names.pattern import Match, Pattern
from delivery_chain.core.names.platform import Platform
from delivery_chain.core.names.reference import check_tag
from delivery_chain.core.spec.advice import glob_hint
from delivery_chain.core.spec.delivery import ReplicateRule, Trigger
from delivery_chain.core.spec.scan import Scan
from delivery_chain.core.spec.types import (
    PLACEHOLDER,
    QUARANTINE_SUFFIX,
    ArgName,
    ConnectionId,
    Flag,
    InsidePath,
    RepositoryName,
    Slug,
    Text,
    commit_length,
    not_bool,
    time_zone,
)
from delivery_chain.core.value import Value

HOST = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?$"
"""Registry host as images name it."""


class Scope(Value):
    """Scope of the chain: one namespace of one registry, all of it or some repositories."""

    instance: ConnectionId
    """Airflow connection of type `oci_registry`: the home registry."""
    namespace: RepositoryName
    """Namespace (project) in that registry."""
    repositories: tuple[RepositoryName, ...] = ()
    """Repositories covered, without the namespace."""
    all: Flag = False
    """Cover every repository of the namespace ("All Effective" in ACR EE)."""
    exclude: tuple[RepositoryName, ...] = Field(default=(), max_length=50)
    """With `all`: repositories to exclude, at most 50."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.all == bool(self.repositories):
            raise ValueError("expected either `repositories` or `all: true`")
        if self.exclude and not self.all:
            raise ValueError("`exclude` goes with `all: true`")
        return self

    def covers(self, repository: str) -> bool:
        """Whether an event on `repository` (without the namespace) belongs to this chain.

        `all` excludes repositories where chains of nested namespaces back up blocked images.
        """
        if not self.all:
            return repository in self.repositories
        return repository not in self.exclude and f"{QUARANTINE_SUFFIX}/" not in repository


class Source(Value):
    """Source code of a repository."""

    connection: ConnectionId
    """Airflow connection of type `git`: address and credentials."""
    url: Annotated[str, StringConstraints(strict=True, max_length=1000)] = ""
    """Address of the repository; relative to the connection's, or omitted if that is complete."""
    submodules: Flag = False
    """Fetch submodules too, over the same allowed transports."""

    @field_validator("url")
    @classmethod
    def _no_credentials(cls, url: str) -> str:
        if url.startswith("-") or any(character in url for character in "\0\r\n"):
            raise ValueError("expected a git address")
        if re.match(r"[a-z+]+://[^/]*@", url) and not url.startswith("ssh://"):
            raise ValueError("the address must not contain a user or password: put them into the connection")
        return url


class BuildTime(StrEnum):
    """Format of the push's time in a tag: `-YYYYMMDD` or `-YYYYMMDDHHmm`."""

    DATE = "date"
    MINUTE = "minute"


class TagRule(Value):
    """One tag of a build: `<tag>-<time>-<commit>`, the last two if requested."""

    tag: Annotated[str, StringConstraints(strict=True, min_length=1, max_length=200)]
    """Text with `${name}` for captures of the rule's pattern."""
    build_time: BuildTime | None = None
    """Time of the source push, in the build's `timezone`."""
    commit_id: Annotated[int | None, Field(ge=1, le=40, strict=True), BeforeValidator(commit_length)] = None
    """Number of characters of the commit to append, 1 to 40; `true` means 6."""

    @property
    def placeholders(self) -> frozenset[str]:
        """Names used as `${name}`."""
        return frozenset(PLACEHOLDER.findall(self.tag))

    @property
    def literal(self) -> bool:
        """Whether the tag is the same for every push."""
        return not (self.placeholders or self.build_time or self.commit_id)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        text = PLACEHOLDER.sub("x", self.tag)
        if "$" in text or "{" in text or "}" in text:
            raise ValueError(f"expected ${{name}} for a capture, found {self.tag!r}")
        try:
            check_tag(text)
        except ValueError as error:
            raise ValueError(f"tag {self.tag!r}: {str(error).partition(': ')[2] or error}") from error
        return self


class BuildRule(Value):
    """Builds pushes of one repository under the given tags."""

    name: Slug
    repository: RepositoryName | None = None
    """May be omitted if the scope has just one repository."""
    branch: Annotated[str, StringConstraints(strict=True, min_length=1)] | None = None
    """Branch, or regular expression for whole branch names."""
    tag: Annotated[str, StringConstraints(strict=True, min_length=1)] | None = None
    """Git tag, or regular expression for whole tag names."""
    match: Match | None = None
    """Interpretation of `branch` or `tag`; by default any metacharacter other than . and - makes it a regexp."""
    context: InsidePath = "."
    """Build context, relative to the checkout's root."""
    dockerfile: InsidePath = "Dockerfile"
    """Dockerfile, relative to the context."""
    tags: tuple[TagRule, ...] = Field(min_length=1)
    """1 to 3 image tags."""
    platforms: tuple[Platform, ...] = Field(default=(Platform.LINUX_AMD64,), min_length=1)
    """Platforms to build. With several, every tag points at one index of all of them."""
    args: dict[ArgName, Annotated[str, StringConstraints(strict=True, max_length=4000)]] = Field(default={})
    """Build arguments, at most 20. They are visible in the image: no secrets."""

    @field_validator("tags")
    @classmethod
    def _few_tags(cls, tags: tuple[TagRule, ...]) -> tuple[TagRule, ...]:
        if len(tags) > MOST_TAGS:
            raise ValueError(f"at most {MOST_TAGS} tags, found {len(tags)}")
        return tags

    @field_validator("platforms")
    @classmethod
    def _distinct(cls, platforms: tuple[Platform, ...]) -> tuple[Platform, ...]:
        if len(set(platforms)) < len(platforms):
            raise ValueError("expected each platform once")
        return platforms

    @field_validator("args")
    @classmethod
    def _few_args(cls, args: dict[str, str]) -> dict[str, str]:
        if len(args) > MOST_ARGS:
            raise ValueError(f"at most {MOST_ARGS} build arguments, found {len(args)}")
        return args

    @model_validator(mode="after")
    def _one_ref(self) -> Self:
        if (self.branch is None) == (self.tag is None):
            raise ValueError("expected either `branch` or `tag`")
        try:
            groups = self.pattern.groups
        except ValueError as error:
            raise ValueError(f"`{self.ref_kind}`: {error}") from error
        for rule in self.tags:
            for name in sorted(rule.placeholders - groups):
                known = ", ".join(sorted(groups)) or "no group"
                hint = "" if self.match else glob_hint(self.pattern.text, name)
                raise ValueError(
                    f"tag {rule.tag!r}: ${{{name}}} is not captured; the pattern names {known}"
                    + (f" ({hint})" if hint else "")
                )
        return self

    @property
    def ref_kind(self) -> Literal["branch", "tag"]:
        """Kind of git ref that starts the rule."""
        return "branch" if self.branch is not None else "tag"

    @property
    def literal_ref(self) -> str:
        """Full ref of a rule that is not a regular expression."""
        return self.prefix + self.pattern.text

    @property
    def prefix(self) -> str:
        """Prefix of the full names of its refs."""
        return BRANCHES if self.ref_kind == "branch" else TAGS

    @property
    def pattern(self) -> Pattern:
        """Pattern for the ref's short name."""
        return Pattern.guess(self.branch if self.branch is not None else self.tag or "", self.match)

    @property
    def system_only(self) -> bool:
        """Whether only a push can start the rule, because the rule alone does not determine ref and tag."""
        return self.pattern.match is Match.REGEXP or not all(tag.literal for tag in self.tags)


MOST_TAGS = 3
MOST_ARGS = 20


class ReadFrom(Value):
    """A registry for base images, and the namespaces that may be read there."""

    connection: ConnectionId
    """Airflow connection of type `oci_registry`, with a read-only login."""
    namespaces: tuple[RepositoryName, ...] = ()
    """Namespaces that may be read; with `for`, all of them by default."""
    host: Annotated[str | None, StringConstraints(strict=True, pattern=HOST)] = Field(
        default=None, alias="for"
    )
    """Registry as images name it, if the connection is a mirror of it; the connection's own by default."""

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        if not self.namespaces and self.host is None:
            raise ValueError("expected `namespaces`, or `for` with the registry that images name")
        return self


class Build(Value):
    """Builds of images from source."""

    rules: tuple[BuildRule, ...] = Field(min_length=1)
    read_from: tuple[ReadFrom, ...] | None = Field(default=None, alias="from", max_length=50)
    """Allowed sources of base images; by default the chain's own namespace, and other registries without a login."""
    timezone: Annotated[str, AfterValidator(time_zone)] = "Asia/Shanghai"
    """Time zone of `build_time`; UTC+8 by default, like ACR EE."""
    timeout_minutes: Annotated[int, Field(ge=1, le=1440)] = 60
    """Time limit of one platform's build."""


class ChainSpec(Value):
    """One delivery chain."""

    version: Annotated[Literal[1], BeforeValidator(not_bool)]
    name: Slug
    """The Dag's id: 1 to 64 characters of [a-z0-9._-], the first and last a letter or digit."""
    description: Text = ""
    scope: Scope
    sources: dict[RepositoryName, Source] = Field(default={})
    """Source code per repository of the scope."""
    build: Build | None = None
    """If omitted, the chain starts with images that others push."""
    scan: Scan = Scan()
    replicate: tuple[ReplicateRule, ...] = Field(default=(), max_length=100)
    distribute: tuple[Trigger, ...] = Field(default=(), max_length=100)

    @property
    def build_rules(self) -> tuple[BuildRule, ...]:
        """All build rules; empty for a chain without builds."""
        return self.build.rules if self.build else ()

    @property
    def build_platforms(self) -> tuple[Platform, ...]:
        """Platforms that any rule builds, in the order of the enum."""
        named = {platform for rule in self.build_rules for platform in rule.platforms}
        return tuple(platform for platform in Platform if platform in named)

    @property
    def scan_platforms(self) -> tuple[str, ...]:
        """Platforms with a scan task of their own; amd64 and arm64 by default."""
        if self.scan.ship:
            return self.scan.ship
        named = [*self.build_platforms, *self.scan.platforms] or [Platform.LINUX_AMD64, Platform.LINUX_ARM64]
        known = [platform.value for platform in Platform if platform in named]
        return tuple(dict.fromkeys([*known, *(str(platform) for platform in named)]))

    def repository_of(self, rule: BuildRule | ReplicateRule) -> str:
        """Repository of a rule: its own, or the scope's only one."""
        return rule.repository or self.scope.repositories[0]
