"""Typed reads of this package's section of Airflow's configuration, from any source of values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delivery_chain.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

SECTION = "delivery_chain"


@dataclass(frozen=True, slots=True)
class Section:
    """Options of one source; each read rejects an invalid value.

    Every read raises ConfigurationError, not retryable, which names the option, its value and the expected one.
    """

    get: Callable[[str, str], str | None]
    """Maps section and option to its value; None or an empty string for the default."""

    def text(self, option: str) -> str:
        """Read any string, without surrounding whitespace; empty if not set."""
        return (self.get(SECTION, option) or "").strip()

    def folder(self, option: str, default: Callable[[], Path]) -> Path:
        """Read an absolute path; `~` is the home of the current user."""
        text = self.text(option)
        if not text:
            return default()
        path = Path(text).expanduser()
        if not path.is_absolute():
            raise _refused(option, "an absolute path", text)
        return path

    def one(self, option: str, default: str, allowed: tuple[str, ...]) -> str:
        """Read one of several words."""
        text = self.text(option).lower() or default
        if text not in allowed:
            raise _refused(option, f"one of {', '.join(allowed)}", text)
        return text

    def several(self, option: str, default: str, allowed: tuple[str, ...]) -> frozenset[str]:
        """Read at least one of several words, separated by commas."""
        text = self.text(option).lower() or default
        names = frozenset(part.strip() for part in text.split(",") if part.strip())
        if not names or names - set(allowed):
            raise _refused(option, f"a comma-separated list of {', '.join(allowed)}", text)
        return names

    def number(self, option: str, default: float, least: float, most: float) -> float:
        """Read a number from `least` to `most`."""
        text = self.text(option) or str(default)
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not least <= number <= most:
            raise _refused(option, f"a number from {least:g} to {most:g}", text)
        return number

    def whole(self, option: str, default: int, least: int, most: int) -> int:
        """Read a whole number from `least` to `most`."""
        text = self.text(option) or str(default)
        if not (text.isascii() and text.isdecimal() and least <= int(text[:20]) <= most):
            raise _refused(option, f"a whole number from {least} to {most}", text)
        return int(text)

    def image(self, option: str) -> str:
        """Read an artifact in a registry, with or without a tag; empty if not set."""
        text = self.text(option)
        if text and (
            "/" not in text or "://" in text or text.startswith("-") or not text.isprintable() or " " in text
        ):
            raise _refused(option, "host[:port]/name[:tag]", text)
        return text


def _refused(option: str, expected: str, found: Any) -> ConfigurationError:
    variable = f"AIRFLOW__{SECTION.upper()}__{option.upper()}"
    return ConfigurationError(
        f"[{SECTION}] {option}: expected {expected}, found {str(found)[:200]!r}; "
        f"correct it in airflow.cfg or in {variable}"
    )
