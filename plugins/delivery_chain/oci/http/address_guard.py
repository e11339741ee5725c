"""Pure rules for the addresses a registry may send the client to.

A registry names other addresses in three places: token realms, blob redirects, and upload locations.
It may be hostile, so each one is checked before anything is sent there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from delivery_chain.errors import ProtocolViolation
from delivery_chain.oci.http.reachability import Reach, named_reach

_URL = re.compile(r"[!-~]{1,8192}")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port of a connection."""

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
        """Whether the name itself denotes this machine."""
        try:
            return named_reach(self.host) is Reach.MACHINE
        except ValueError:
            return False

    @classmethod
    def parse(cls, url: str) -> Origin:
        """Parse the origin of an absolute URL.

        Raises:
            ProtocolViolation: Not an absolute http or https URL of printable ASCII, or one with a user name.
        """
        try:
            parts = urlsplit(url) if _URL.fullmatch(url) else None
            port = parts.port if parts else None
        except ValueError:
            parts = port = None
        if (
            parts is None
            or port == 0
            or parts.scheme not in _PORTS
            or not parts.hostname
            or "@" in parts.netloc
        ):
            raise ProtocolViolation(f"expected an absolute http or https URL, found {_origin_only(url)!r}")
        return cls(parts.scheme, parts.hostname, port or _PORTS[parts.scheme])


def check_target(registry: Origin, target: Origin, what: str) -> None:
    """Check an address that a registry sends the client to, without resolving it.

    A host name is checked again at connect time, by the addresses it resolves to.

    Args:
        registry: The registry itself.
        target: The address that it names.
        what: `token realm`, `redirect` or `upload location`, for the message.

    Raises:
        ProtocolViolation: The address is forbidden, or plain http on another host than a plain-http registry's own.
    """
    if target.scheme == "http" and (registry.scheme == "https" or target.host != registry.host):
        raise ProtocolViolation(
            f"{registry}: expected an https {what} or one on the registry's own plain-http host, "
            f"found {target}. If the registry is behind a proxy, have the proxy send X-Forwarded-Proto"
        )
    if target.host == registry.host:
        return  # The user named this address.
    try:
        found = named_reach(target.host)
    except ValueError as error:
        raise ProtocolViolation(f"{registry}: the {what} {target} is refused: {error}") from None
    if found is Reach.NOBODY or (found is Reach.MACHINE and not registry.loopback):
        raise ProtocolViolation(f"{registry}: the {what} {target} is an address that a registry may not name")


def _origin_only(url: str) -> str:
    # The rest may hold a signature or a password.
    shown = "".join(char for char in url[:100].partition("?")[0] if char.isprintable())
    return re.sub(r"//[^/@]*@", "//", shown)
