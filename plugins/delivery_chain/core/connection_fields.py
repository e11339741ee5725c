"""What an Airflow connection says, read field by field. Pure: who reads the connection says how secrets are masked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from delivery_chain.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

_CERTIFICATE = "-----BEGIN CERTIFICATE-----"
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0", ""})


@dataclass(frozen=True, slots=True)
class ConnectionFields:
    """What a connection says. Never logged."""

    conn_id: str
    conn_type: str
    host: str
    login: str
    password: str = field(repr=False)
    port: int | None
    extra: dict[str, Any] = field(repr=False)
    mask: Callable[[str], None] = field(repr=False)
    """Keeps a secret out of logs from now on; called with an empty text too."""

    def text(self, name: str) -> str:
        """A text of the extra; empty where it is not there."""
        value = self.extra.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.wrong(name, "a text", type(value).__name__)
        return value

    def secret(self, name: str) -> str:
        """A text of the extra that must not be shown: masked before it is returned."""
        value = self.text(name)
        self.mask(value)
        return value

    def flag(self, name: str) -> bool:
        """A yes or no of the extra; no where it is not there."""
        value = self.extra.get(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        text = str(value).strip().lower()
        if text not in _TRUE | _FALSE:
            raise self.wrong(name, "true or false", repr(text[:40]))
        return text in _TRUE

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number of the extra."""
        value = self.extra.get(name)
        text = str(default) if value is None or value == "" else str(value).strip()
        if not (text.isascii() and text.isdecimal() and least <= int(text[:20]) <= most):
            raise self.wrong(name, f"a whole number from {least} to {most}", repr(text[:40]))
        return int(text)

    def certificate(self) -> str:
        """The field `ca_certificate`: PEM text, or empty for the CAs that the system trusts."""
        text = self.text("ca_certificate").strip()
        if text and not text.startswith(_CERTIFICATE):
            raise self.wrong("ca_certificate", f"PEM text that begins with {_CERTIFICATE}", "another text")
        return f"{text}\n" if text else ""

    def wrong(self, name: str, expected: str, found: str) -> ConfigurationError:
        """The error for one field; `found` must hold no secret."""
        return ConfigurationError(
            f"connection {self.conn_id!r}, field {name}: expected {expected}, found {found}; "
            "correct it under Admin > Connections"
        )
