"""Defines the interface of builders, which build and push the image of one platform."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from delivery_chain.core.dockerfile.base_image_policy import BaseImagePolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from delivery_chain.core.names.platform import Platform
    from delivery_chain.core.names.registry import Registry


@dataclass(frozen=True, slots=True)
class BuildWork:
    """One build: its inputs, its target, and the base images it may read."""

    context: Path
    """Folder that COPY and ADD see, from `resolve_context`; read-only."""
    dockerfile: Path
    platform: Platform
    target: str
    """`host[:port]/name:tag` in `registry`; also names the build, so that a retry finds its leftovers."""
    registry: Registry
    """Registry to push to, with its login."""
    folder: Path
    """Folder for temporary files, on a disk with space for three copies of the image."""
    args: Mapping[str, str] = field(default_factory=dict)
    """Build arguments. Not for secrets: they end up in the image's history."""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    reads: BaseImagePolicy = field(default_factory=BaseImagePolicy)
    """Base images that the build may read; by default any that needs no login."""
    options: Mapping[str, str] = field(default_factory=dict)
    """The builder's own settings, such as buildah's `isolation` and `network`."""


@dataclass(frozen=True, slots=True)
class BuildOutput:
    """A pushed image, and how long building and pushing took, in seconds."""

    digest: str
    """Digest of the pushed manifest."""
    build_seconds: float
    push_seconds: float
    isolation: str
    """Description of how RUN steps were isolated from the machine."""
    pull_seconds: float = 0.0
    """Time spent pulling base images."""


class Builder(Protocol):
    """Builds images from a context and a Dockerfile."""

    def build(self, work: BuildWork, *, seconds: float, log: Callable[[str], None]) -> BuildOutput:
        """Build one platform's image and push it.

        Args:
            work: The build.
            seconds: Timeout.
            log: Called with each line of output, with credentials masked.

        Raises:
            BuildFailed: The Dockerfile or its context is wrong, or asks for something forbidden. Not retryable.
            InvalidReference: `work.target` is not a tag in `work.registry`. Not retryable.
            RegistryError: Pulling a base image or pushing the image failed; its class says whether to retry.
            DiskFull: No space left. Retryable.
            ToolMissing: A program that the builder needs is missing. Not retryable.
            ConfigurationError: This machine does not support an option. Not retryable.
            ProbeFailed: The machine could not be probed. Retryable.
            ToolTimeout: The timeout expired. Not retryable.
        """

    def probe(self, options: Mapping[str, str], folder: Path) -> str:
        """Describe the isolation that builds get on this machine, which a trial build determines.

        Raises:
            ConfigurationError, ToolMissing, ProbeFailed: As in `build`.
        """
