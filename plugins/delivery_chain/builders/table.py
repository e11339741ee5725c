"""Each builder by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.tools.lazy_table import load

if TYPE_CHECKING:
    from delivery_chain.builders.interface import Builder

BUILDERS = {"buildah": "delivery_chain.builders.buildah.builder:BuildahBuilder"}
"""Name to `module:class`."""


def load_builder(name: str) -> Builder:
    """Return the builder of that name.

    Raises:
        ConfigurationError: No builder has the name. Not retryable.
    """
    builder: Builder = load(BUILDERS, name, "builder")()
    return builder
