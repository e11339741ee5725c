"""Load the implementation of a port by name, importing its module on demand."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from delivery_chain.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST = 100
"""Maximum number of characters of an unknown name to repeat in an error."""


def load(table: Mapping[str, str], name: str, what: str, advice: str = "") -> Any:
    """Return the object that a table has under a name.

    Args:
        table: Maps a name to `module:attribute`.
        name: The requested name.
        what: Kind of thing in the table, for the error, such as `scan engine`.
        advice: Next step, for the error; empty for none.

    Raises:
        ConfigurationError: The table has no such name. Not retryable.
    """
    if name not in table:
        known = ", ".join(sorted(table))
        end = f"; {advice}" if advice else ""
        raise ConfigurationError(f"{what} {name[:LONGEST]!r}: expected one of {known}{end}")
    module, _, attribute = table[name].partition(":")
    return getattr(import_module(module), attribute)
