"""Builders by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.tools.lazy_table import LazyTable

if TYPE_CHECKING:
    from delivery_chain.builders.interface import Builder

BUILDERS: LazyTable[type[Builder]] = LazyTable(
    "builder",
    {"buildah": "delivery_chain.builders.buildah.builder:BuildahBuilder"},
)
