"""Typed reads of an Airflow connection's fields. Pure: the caller supplies the function that masks secrets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from delivery_chain.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

_CERTIFICATE = "-----BEGIN CERTIFICATE-----"
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0", ""})


@dataclass(frozen=True, slots=True)
class ConnectionFields:
    """Fields of a connection. Never logged."""

    conn_id: str
    conn_type: str
    host: str
    login: str
    password: str = field(repr=False)
    port: int | None
    extra: dict[str, object] = field(repr=False)
    mask: Callable[[str], None] = field(repr=False)
    """Masks a secret in logs from now on; also called with an empty string."""

    def text(self, name: str) -> str:
        """Read a string from the extra; empty by default."""
        value = self.extra.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.wrong(name, "a text", type(value).__name__)
        return value

    def secret(self, name: str) -> str:
        """Read a secret from the extra: masked in logs before it is returned."""
        value = self.text(name)
        self.mask(value)
        return value

    def flag(self, name: str) -> bool:
        """Read a boolean from the extra; false by default."""
        value = self.extra.get(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        text = str(value).strip().lower()
        if text not in _TRUE | _FALSE:
            raise self.wrong(name, "true or false", repr(text[:40]))
        return text in _TRUE

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        """Read a whole number from the extra."""
        value = self.extra.get(name)
        text = str(default) if value is None or value == "" else str(value).strip()
        if not (text.isascii() and text.isdecimal() and least <= int(text[:20]) <= most):
            raise self.wrong(name, f"a whole number from {least} to {most}", repr(text[:40]))
        return int(text)

    def certificate(self) -> str:
        """Read the field `ca_certificate`: PEM text, or empty for the CAs that the system trusts."""
        text = self.text("ca_certificate").strip()
        if text and not text.startswith(_CERTIFICATE):
            raise self.wrong("ca_certificate", f"PEM text that begins with {_CERTIFICATE}", "other text")
        return f"{text}\n" if text else ""

    def wrong(self, name: str, expected: str, found: str) -> ConfigurationError:
        """Build the error for one field; `found` must contain no secret."""
        return ConfigurationError(
            f"connection {self.conn_id!r}, field {name}: expected {expected}, found {found}; "
            "correct it under Admin > Connections"
        )
