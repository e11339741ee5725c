"""The chain spec: what each field is. What it means is in `docs/chain-spec.md`; the rules are in their own modules.

The model follows ACR EE's delivery chain. Everything is checked here once; nothing later asks again.
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
"""A registry's host as images name it."""


class Scope(Value):
    """What the chain covers: one namespace of one registry, all of it or some repositories."""

    instance: ConnectionId
    """Airflow connection of type `oci_registry`: the home registry."""
    namespace: RepositoryName
    """Namespace (project) in that registry."""
    repositories: tuple[RepositoryName, ...] = ()
    """The repositories covered, without the namespace."""
    all: Flag = False
    """Cover every repository of the namespace ("All Effective" in ACR EE)."""
    exclude: tuple[RepositoryName, ...] = Field(default=(), max_length=50)
    """With `all`: repositories left out, at most 50."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.all == bool(self.repositories):
            raise ValueError("expected either `repositories` or `all: true`")
        if self.exclude and not self.all:
            raise ValueError("`exclude` goes with `all: true`")
        return self

    def covers(self, repository: str) -> bool:
        """Whether an event on `repository` (without the namespace) is this chain's.

        `all` leaves out what chains of namespaces below this one back blocked images up to.
        """
        if not self.all:
            return repository in self.repositories
        return repository not in self.exclude and f"{QUARANTINE_SUFFIX}/" not in repository


class Source(Value):
    """Where a repository's source code is."""

    connection: ConnectionId
    """Airflow connection of type `git`: address and credentials."""
    url: Annotated[str, StringConstraints(strict=True, max_length=1000)] = ""
    """Address of the repository; relative to the connection's, or left out where that is complete."""
    submodules: Flag = False
    """Fetch submodules too, over the same allowed transports."""

    @field_validator("url")
    @classmethod
    def _no_credentials(cls, url: str) -> str:
        if url.startswith("-") or any(character in url for character in "\0\r\n"):
            raise ValueError("expected a git address")
        if re.match(r"[a-z+]+://[^/]*@", url) and not url.startswith("ssh://"):
            raise ValueError("an address holds no user or password: they belong into the connection")
        return url


class BuildTime(StrEnum):
    """What of the push's time a tag gets: `-YYYYMMDD` or `-YYYYMMDDHHmm`."""

    DATE = "date"
    MINUTE = "minute"


class TagRule(Value):
    """One tag of a build: `<tag>-<time>-<commit>`, the last two where asked for."""

    tag: Annotated[str, StringConstraints(strict=True, min_length=1, max_length=200)]
    """Text with `${name}` for what the rule's pattern captured."""
    build_time: BuildTime | None = None
    """Time of the source push, in the build's `timezone`."""
    commit_id: Annotated[int | None, Field(ge=1, le=40, strict=True), BeforeValidator(commit_length)] = None
    """First characters of the commit, 1 to 40; `true` means 6."""

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
            raise ValueError(f"expected ${{name}} for a captured text, found {self.tag!r}")
        try:
            check_tag(text)
        except ValueError as error:
            raise ValueError(f"tag {self.tag!r}: {str(error).partition(': ')[2] or error}") from error
        return self


class BuildRule(Value):
    """Which pushes of one repository are built, how, and under which tags."""

    name: Slug
    repository: RepositoryName | None = None
    """May be left out where the scope has just one repository."""
    branch: Annotated[str, StringConstraints(strict=True, min_length=1)] | None = None
    """Branch, or regular expression for whole branch names."""
    tag: Annotated[str, StringConstraints(strict=True, min_length=1)] | None = None
    """Git tag, or regular expression for whole tag names."""
    match: Match | None = None
    """How `branch` or `tag` is read; by default any metacharacter other than . and - makes it a regexp."""
    context: InsidePath = "."
    """Build context, relative to the checkout's root."""
    dockerfile: InsidePath = "Dockerfile"
    """Dockerfile, relative to the context."""
    tags: tuple[TagRule, ...] = Field(min_length=1)
    """1 to 3 image tags."""
    platforms: tuple[Platform, ...] = Field(default=(Platform.LINUX_AMD64,), min_length=1)
    """With several, every tag points at one index that holds them all."""
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
            raise ValueError("each platform once")
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
        """Which kind of git ref starts the rule."""
        return "branch" if self.branch is not None else "tag"

    @property
    def literal_ref(self) -> str:
        """The full ref that the rule's text names, where it is no regular expression."""
        return self.prefix + self.pattern.text

    @property
    def prefix(self) -> str:
        """What the full names of its refs begin with."""
        return BRANCHES if self.ref_kind == "branch" else TAGS

    @property
    def pattern(self) -> Pattern:
        """What the ref's short name has to be."""
        return Pattern.guess(self.branch if self.branch is not None else self.tag or "", self.match)

    @property
    def system_only(self) -> bool:
        """Whether only a push can be built: the rule alone does not say which ref and tag."""
        return self.pattern.match is Match.REGEXP or not all(tag.literal for tag in self.tags)


MOST_TAGS = 3
MOST_ARGS = 20


class ReadFrom(Value):
    """One registry that base images may come from, and what may be read there."""

    connection: ConnectionId
    """Airflow connection of type `oci_registry`, with a login that needs to read only."""
    namespaces: tuple[RepositoryName, ...] = ()
    """Namespaces that may be read; with `for` all of them unless some are listed."""
    host: Annotated[str | None, StringConstraints(strict=True, pattern=HOST)] = Field(
        default=None, alias="for"
    )
    """Registry as images name it, where the connection is a mirror of it; else the connection's own."""

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        if not self.namespaces and self.host is None:
            raise ValueError("expected `namespaces`, or `for` with the registry that images name")
        return self


class Build(Value):
    """How images come from source."""

    rules: tuple[BuildRule, ...] = Field(min_length=1)
    read_from: tuple[ReadFrom, ...] | None = Field(default=None, alias="from", max_length=50)
    """All that base images may come from; left out: the chain's own namespace, and others without a login."""
    timezone: Annotated[str, AfterValidator(time_zone)] = "Asia/Shanghai"
    """Zone of `build_time`: UTC+8, as ACR EE has it, unless told otherwise."""
    timeout_minutes: Annotated[int, Field(ge=1, le=1440)] = 60
    """How long one platform's build may take."""


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
    """Left out: the chain starts with images that others push."""
    scan: Scan = Scan()
    replicate: tuple[ReplicateRule, ...] = Field(default=(), max_length=100)
    distribute: tuple[Trigger, ...] = Field(default=(), max_length=100)

    @property
    def build_rules(self) -> tuple[BuildRule, ...]:
        """All build rules, none for a chain without builds."""
        return self.build.rules if self.build else ()

    @property
    def build_platforms(self) -> tuple[Platform, ...]:
        """Every platform that some rule builds, in the order of the enum."""
        named = {platform for rule in self.build_rules for platform in rule.platforms}
        return tuple(platform for platform in Platform if platform in named)

    @property
    def scan_platforms(self) -> tuple[str, ...]:
        """The platforms that have a scan task of their own; with nothing said amd64 and arm64."""
        if self.scan.ship:
            return self.scan.ship
        named = [*self.build_platforms, *self.scan.platforms] or [Platform.LINUX_AMD64, Platform.LINUX_ARM64]
        known = [platform.value for platform in Platform if platform in named]
        return tuple(dict.fromkeys([*known, *(str(platform) for platform in named)]))

    def repository_of(self, rule: BuildRule | ReplicateRule) -> str:
        """The repository that a rule is about: its own, or the scope's only one."""
        return rule.repository or self.scope.repositories[0]
