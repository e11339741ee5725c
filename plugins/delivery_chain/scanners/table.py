"""Load scan engines by their names in specs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from delivery_chain.tools.lazy_table import load

if TYPE_CHECKING:
    from delivery_chain.scanners.interface import Scanner

SCANNERS = {"trivy": "delivery_chain.scanners.trivy.scanner:TrivyScanner"}
"""Maps names to `module:class`; the names are those of `delivery_chain.core.spec.engines`."""


def load_scanner(name: str) -> Scanner[Any, Any]:
    """Return the engine of that name.

    Raises:
        ConfigurationError: No engine has that name. Not retryable.
    """
    made: Scanner[Any, Any] = load(SCANNERS, name, "scan engine", "correct `scan.engine`")()
    return made
