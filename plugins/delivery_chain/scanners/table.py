"""Scan engines by name; the names are those of `delivery_chain.core.spec.engines`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from delivery_chain.tools.lazy_table import LazyTable

if TYPE_CHECKING:
    from delivery_chain.scanners.interface import Scanner

SCANNERS: LazyTable[type[Scanner[Any, Any]]] = LazyTable(
    "scan engine",
    {"trivy": "delivery_chain.scanners.trivy.scanner:TrivyScanner"},
    advice="correct `scan.engine`",
)
