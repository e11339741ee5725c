"""The package's section of Airflow's configuration, as set by a test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.core.section import SECTION, Section

if TYPE_CHECKING:
    from pathlib import Path


def section(**options: str | Path) -> Section:
    """A section with just these options."""
    found = {(SECTION, name): str(value) for name, value in options.items()}
    return Section(lambda where, name: found.get((where, name)))
