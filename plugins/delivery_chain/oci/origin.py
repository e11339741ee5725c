"""Which addresses a registry may send us to, as pure rules.

A registry names other addresses in three places: token realms, redirects of blobs, and upload locations.
It may be hostile, so each is checked before anything is sent there.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from delivery_chain.errors import ProtocolViolation

_URL = re.compile(r"[!-~]{1,8192}")
_PORTS = {"http": 80, "https": 443}
METADATA = frozenset({"100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254"})
"""Metadata services that are not link-local: Alibaba Cloud, Azure, Oracle Cloud, AWS over IPv6."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a connection goes."""

    scheme: str
    """`http` or `https`."""
    host: str
    """Lowercase name or address, without brackets."""
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (
            f"{self.scheme}://{host}"
            if self.port == _PORTS[self.scheme]
            else f"{self.scheme}://{host}:{self.port}"
        )

    @property
    def loopback(self) -> bool:
        """Whether the name itself says this machine."""
        return self.host == "localhost" or _is_loopback(self.host)

    @classmethod
    def parse(cls, url: str) -> Origin:
        """Read an absolute URL's origin.

        Raises:
            ProtocolViolation: Not an absolute http or https URL of printable ASCII, or one with a user name.
        """
        try:
            parts = urlsplit(url) if _URL.fullmatch(url) else None
            port = parts.port if parts else None
        except ValueError:
            parts = port = None
        if parts is None or parts.scheme not in _PORTS or not parts.hostname or parts.username is not None:
            raise ProtocolViolation(f"expected an absolute http or https URL, found {_origin_only(url)!r}")
        return cls(parts.scheme, parts.hostname, port or _PORTS[parts.scheme])


def check_target(registry: Origin, target: Origin, what: str) -> None:
    """Let pass an address that a registry may send us to.

    Args:
        registry: The registry itself.
        target: Where it sends us.
        what: `token realm`, `redirect` or `upload location`, for the message.

    Raises:
        ProtocolViolation: Plain http, where the registry is https or another host; or a forbidden address.
    """
    if target.scheme == "http" and (registry.scheme == "https" or target.host != registry.host):
        raise ProtocolViolation(
            f"{registry}: expected an https {what} or one on the registry's own plain-http host, "
            f"found {target}. If the registry is behind a proxy, tell it its outside URL (X-Forwarded-Proto)"
        )
    if refused_address(registry, target.host, target.host):
        raise ProtocolViolation(
            f"{registry}: the {what} {target} is an address that a registry may not send us to"
        )


def refused_address(registry: Origin, host: str, address: str) -> bool:
    """Whether a connection to `address`, found under the name `host`, must not be used.

    Link-local, metadata, multicast and unspecified addresses are refused, loopback too unless the registry
    is there; the registry's own host never is, for the user named it.
    """
    if host == registry.host:
        return False
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address == "localhost" and not registry.loopback
    found = getattr(found, "ipv4_mapped", None) or found
    if found.is_link_local or found.is_multicast or found.is_unspecified or str(found) in METADATA:
        return True
    return found.is_loopback and not registry.loopback


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _origin_only(url: str) -> str:
    # The rest may hold a signature or a password.
    shown = "".join(char for char in url[:100].partition("?")[0] if char.isprintable())
    return re.sub(r"//[^/@]*@", "//", shown)
