"""Implementations of the ports that record their arguments, registered under the names of real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.builders.interface import BuildOutput
from delivery_chain.builders.table import BUILDERS
from delivery_chain.errors import JobLost
from delivery_chain.jobs.failure import failure_of
from delivery_chain.runners.interface import Handle
from delivery_chain.runners.table import RUNNERS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import pytest

    from delivery_chain.builders.interface import BuildWork
    from delivery_chain.jobs.failure import Failure
    from delivery_chain.jobs.job import Job
    from delivery_chain.jobs.logins import Logins

BUILT = "sha256:" + "1" * 64


class NotingBuilder:
    """Builds nothing; every build returns `BUILT`, or raises `error`."""

    works: list[BuildWork]
    error: Exception | None

    def build(self, work: BuildWork, *, seconds: float, log: Callable[[str], None]) -> BuildOutput:
        """Record the work."""
        self.works.append(work)
        log(f"build of {work.target}, at most {seconds:.0f} s")
        if self.error is not None:
            raise self.error
        return BuildOutput(BUILT, 1.23456, 0.5, "isolation chroot, network host, storage vfs")

    def probe(self, options: Mapping[str, str], folder: Path) -> str:
        """Record the request."""
        return f"{dict(options)} in {folder}"


def noting_builder(monkeypatch: pytest.MonkeyPatch, name: str = "buildah") -> type[NotingBuilder]:
    """Put a new NotingBuilder into the table; its class holds what it recorded."""
    monkeypatch.setattr(NotingBuilder, "works", [], raising=False)
    monkeypatch.setattr(NotingBuilder, "error", None, raising=False)
    monkeypatch.setitem(BUILDERS, name, f"{__name__}:NotingBuilder")
    return NotingBuilder


class NotingRunner:
    """Runs nothing; a watched job is lost, after `meanwhile` was called."""

    cancelled: list[str]
    meanwhile: Callable[[], None]

    def submit(self, job: Job, logins: Logins, key: str) -> Handle:
        """Record the key, and use it as the handle."""
        del job, logins
        return Handle(key)

    def watch(self, handle: Handle, log: Callable[[str], None]) -> Failure:
        """Let the test act while a job would run."""
        log(f"job {handle.key}")
        type(self).meanwhile()
        return failure_of(JobLost(f"job {handle.key}"))

    def cancel(self, handle: Handle) -> None:
        """Record the key."""
        self.cancelled.append(handle.key)


def noting_runner(monkeypatch: pytest.MonkeyPatch, name: str = "local") -> type[NotingRunner]:
    """Put a new NotingRunner into the table; its class holds what it recorded."""
    monkeypatch.setattr(NotingRunner, "cancelled", [], raising=False)
    monkeypatch.setattr(NotingRunner, "meanwhile", lambda: None, raising=False)
    monkeypatch.setitem(RUNNERS, name, f"{__name__}:NotingRunner")
    return NotingRunner
