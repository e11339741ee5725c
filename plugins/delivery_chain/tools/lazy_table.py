"""Tables of a port's implementations: each is imported when it is loaded."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from delivery_chain.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST = 100
"""Maximum number of characters of an unknown name to repeat in an error."""
T = TypeVar("T")


class LazyTable(dict[str, str], Generic[T]):
    """Implementations of a port: name to `module:class`."""

    def __init__(self, what: str, rows: Mapping[str, str], *, advice: str = "") -> None:
        """Import nothing yet.

        Args:
            what: Kind of thing in the table, for errors: `scan engine`.
            rows: Name to `module:class`.
            advice: Next step after an unknown name, for errors.
        """
        super().__init__(rows)
        self._what = what
        self._advice = f"; {advice}" if advice else ""

    def load(self, name: str) -> T:
        """Import and return the class of that name.

        Raises:
            ConfigurationError: The table has no such name. Not retryable.
        """
        if name not in self:
            known = ", ".join(sorted(self))
            raise ConfigurationError(
                f"{self._what} {name[:LONGEST]!r}: expected one of {known}{self._advice}"
            )
        module, _, attribute = self[name].partition(":")
        return cast("T", getattr(import_module(module), attribute))
