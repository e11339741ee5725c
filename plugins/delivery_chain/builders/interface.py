"""The builder port: builds one platform's image and pushes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from delivery_chain.core.dockerfile.pull_policy import PullPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from delivery_chain.core.names.platform import Platform
    from delivery_chain.core.names.registry import Registry


@dataclass(frozen=True, slots=True)
class BuildWork:
    """One build: what goes in, where the image goes, and what the build may read on the way."""

    context: Path
    """Folder that COPY and ADD see, from `resolve_context`. It is only read."""
    dockerfile: Path
    platform: Platform
    target: str
    """`host[:port]/name:tag` in `registry`; also names the build, so that a retry finds its leftovers."""
    registry: Registry
    """Where the image is pushed, with the login for it."""
    folder: Path
    """On a disk with room for the image three times; files go below it and are removed."""
    args: Mapping[str, str] = field(default_factory=dict)
    """Build arguments. Not for secrets: they are in the image's history."""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    reads: PullPolicy = field(default_factory=PullPolicy)
    """Base images that the build may have; by default any that needs no login."""
    options: Mapping[str, str] = field(default_factory=dict)
    """The builder's own settings, such as buildah's `isolation` and `network`."""


@dataclass(frozen=True, slots=True)
class BuildOutput:
    """A pushed image, and the seconds that it took."""

    digest: str
    """Of the manifest that the registry has now."""
    build_seconds: float
    push_seconds: float
    isolation: str
    """How RUN steps were kept apart from the machine, for people."""
    pull_seconds: float = 0.0
    """Time for base images."""


class Builder(Protocol):
    """Builds images from a context and a Dockerfile."""

    def build(self, work: BuildWork, *, seconds: float, log: Callable[[str], None]) -> BuildOutput:
        """Build one platform's image and push it.

        Args:
            work: The build.
            seconds: Time for all of it.
            log: Gets each line of the build, credentials masked.

        Raises:
            BuildFailed: The Dockerfile or its context is at fault, or asks for what it may not have. Not retryable.
            InvalidReference: `work.target` is not a tag in `work.registry`. Not retryable.
            RegistryError: A base image could not be pulled, or the image not pushed; its kind says whether a retry
                helps.
            DiskFull: No room. Retryable.
            ToolMissing: A program that the builder needs is missing. Not retryable.
            ConfigurationError: An option can't be had here. Not retryable.
            ProbeFailed: The machine could not be probed. Retryable.
            ToolTimeout: The seconds ran out. Not retryable.
        """

    def probe(self, options: Mapping[str, str], folder: Path) -> str:
        """Return the isolation that builds get on this machine, found by a trial build, in words for people.

        Raises:
            ConfigurationError, ToolMissing, ProbeFailed: As `build`.
        """
