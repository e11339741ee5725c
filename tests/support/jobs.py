"""A build job with a real source, and the logins for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from delivery_chain.core.names.platform import Platform
from delivery_chain.jobs.job import BuildJob, SourceRef
from delivery_chain.jobs.logins import Logins
from delivery_chain.tools.git.source import GitSource, Transport
from support.build_worker import WAITS, make_source

if TYPE_CHECKING:
    from pathlib import Path

    from delivery_chain.core.names.registry import Registry

__all__ = ["WAITS", "Source"]


@dataclass(frozen=True, slots=True)
class Source:
    """A repository whose Dockerfile waits for as many seconds as its argument WAIT says."""

    url: str
    commit: str

    @classmethod
    def make(cls, folder: Path) -> Source:
        """Create the repository in an empty folder."""
        return cls(f"file://{folder}/api.git", make_source(folder))

    def job(self, *, wait: int = 0, **change: Any) -> BuildJob:
        """A job that builds the repository and pushes the image as `shop/api:built`."""
        job = BuildJob(
            builder="buildah",
            source=SourceRef(connection="git_shop", url="api.git", ref="refs/tags/v1.2", commit=self.commit),
            context=".",
            dockerfile="Dockerfile",
            platform=Platform.LINUX_AMD64,
            registry="home",
            name="shop/api",
            tag="built",
            args={"WAIT": str(wait)} if wait else {},
            seconds=60,
        )
        return job.model_copy(update=change)

    def logins(self, registry: Registry) -> Logins:
        """Return the logins for `job`."""
        source = GitSource(self.url, frozenset({Transport.FILE}))
        return Logins({"home": registry}, {"git_shop": source})
