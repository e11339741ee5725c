"""Implementations of the ports that note what they are given, registered under the names of real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.builders.interface import BuildOutput
from delivery_chain.builders.table import BUILDERS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import pytest

    from delivery_chain.builders.interface import BuildWork

BUILT = "sha256:" + "1" * 64


class NotingBuilder:
    """Builds nothing; every build gives `BUILT`, or raises `error`."""

    works: list[BuildWork]
    error: Exception | None

    def build(self, work: BuildWork, *, seconds: float, log: Callable[[str], None]) -> BuildOutput:
        """Note the work."""
        self.works.append(work)
        log(f"build of {work.target}, at most {seconds:.0f} s")
        if self.error is not None:
            raise self.error
        return BuildOutput(BUILT, 1.23456, 0.5, "isolation chroot, network host, storage vfs")

    def probe(self, options: Mapping[str, str], folder: Path) -> str:
        """Return what it was asked."""
        return f"{dict(options)} in {folder}"


def noting_builder(monkeypatch: pytest.MonkeyPatch, name: str = "buildah") -> type[NotingBuilder]:
    """Put a new NotingBuilder into the table; its class holds what it noted."""
    monkeypatch.setattr(NotingBuilder, "works", [], raising=False)
    monkeypatch.setattr(NotingBuilder, "error", None, raising=False)
    monkeypatch.setitem(BUILDERS, name, f"{__name__}:NotingBuilder")
    return NotingBuilder
