"""The scan engines by their names in specs. They load when asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from delivery_chain.errors import ConfigurationError

if TYPE_CHECKING:
    from delivery_chain.scanners.interface import Scanner

SCANNERS = {"trivy": "delivery_chain.scanners.trivy.scanner:TrivyScanner"}
"""Name to `module:class`; the names are those of `delivery_chain.core.spec.engines`."""


def load_scanner(name: str) -> Scanner[Any, Any]:
    """The engine of that name.

    Raises:
        ConfigurationError: No engine has the name. Not retryable.
    """
    if name not in SCANNERS:
        known = ", ".join(sorted(SCANNERS))
        raise ConfigurationError(f"scan engine {name!r}: expected one of {known}; correct `scan.engine`")
    module, _, attribute = SCANNERS[name].partition(":")
    made: Scanner[Any, Any] = getattr(import_module(module), attribute)()
    return made
