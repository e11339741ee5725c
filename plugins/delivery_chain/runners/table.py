"""Runners by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.tools.lazy_table import LazyTable

if TYPE_CHECKING:
    from delivery_chain.runners.interface import Runner

RUNNERS: LazyTable[type[Runner]] = LazyTable(
    "runner",
    {"local": "delivery_chain.runners.local:LocalRunner"},
)
