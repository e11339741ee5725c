"""Classify addresses by where they can be reached from, and reject unusual notations. Pure."""

from __future__ import annotations

import ipaddress
import re
from enum import IntEnum
from functools import lru_cache

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

METADATA = frozenset({"100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"})
"""Metadata services that are not link-local: Alibaba Cloud, Azure, Oracle Cloud, AWS and Google over IPv6."""
METADATA_NAMES = frozenset({"metadata", "metadata.google.internal", "metadata.goog", "instance-data"})
LOCAL_NAMES = frozenset(
    {"localhost", "localhost.localdomain", "localhost6", "localhost6.localdomain6", "ip6-localhost"}
    | {"ip6-loopback", "loopback", "broadcasthost"}
)
"""Names of the local machine in hosts files. A proxy has such a file, too: through it, they denote the proxy."""

_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,254}}$){_LABEL}(?:\.{_LABEL})*\.?")
_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?")
_EXAMPLES = ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
"""Networks reserved for documentation: in documents and tests they stand for public addresses."""
_THIS_NETWORK = "0.0.0.0/8"
_SITE_LOCAL = "fec0::/10"
_LAST_BITS = ("::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "::/96")
"""IPv6 networks whose last 32 bits are an IPv4 address: translated, NAT64 (two networks), IPv4-compatible."""
_ISATAP = 0x5EFE


class Reach(IntEnum):
    """Scope of an address: the larger the value, the fewer machines can reach it."""

    PUBLIC = 0
    PRIVATE = 1
    """Reachable within a private network only."""
    MACHINE = 2
    """Reachable from this machine only: loopback."""
    NOBODY = 3
    """Metadata services, link-local, multicast, unspecified and reserved addresses: never a registry."""


def reach(address: str) -> Reach:
    """Return the reach of an IP address. If it embeds another (IPv4 in IPv6), the more restricted of the two counts.

    Args:
        address: As returned by `getaddrinfo` and sockets, possibly with a zone.

    Raises:
        ValueError: `address` is not an IP address.
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    return max(_reach(found), *map(_reach, _inner(found)), Reach.PUBLIC)


def named_reach(host: str) -> Reach:
    """Return the reach of a host from its text alone, without resolving names.

    Args:
        host: Lowercase; a name, or an address without brackets.

    Returns:
        The reach; PUBLIC for a name, whose reach is known only once it is resolved.

    Raises:
        ValueError: `host` is neither a name nor an address in its usual notation. `2130706433`, `127.1`, `0x7f.0.0.1`
            and `0177.0.0.1` are names to some programs, and 127.0.0.1 to others.
    """
    try:
        return reach(host) if "%" not in host else Reach.NOBODY
    except ValueError:
        if not _NAME.fullmatch(host) or _NUMBER.fullmatch(host):
            raise ValueError("expected a host name, or an IP address in its usual spelling") from None
    name = host.removesuffix(".")
    if name in METADATA_NAMES:
        return Reach.NOBODY
    local = name in LOCAL_NAMES or name.endswith(".localhost")
    return Reach.MACHINE if local else Reach.PUBLIC


def _reach(found: IPAddress) -> Reach:
    """Return the reach of an address, ignoring any address embedded in it."""
    if found.is_loopback:
        return Reach.MACHINE
    if found.is_link_local or found.is_multicast or found.is_unspecified or str(found) in METADATA:
        return Reach.NOBODY
    if _within(found, _THIS_NETWORK) or (found.version == 4 and found.is_reserved):  # noqa: PLR2004 - IPv4
        return Reach.NOBODY
    if _within(found, _SITE_LOCAL):
        return Reach.PRIVATE
    outside = found.is_global or _within(found, *_EXAMPLES) or bool(_inner(found))
    return Reach.PUBLIC if outside else Reach.PRIVATE


def _inner(found: IPAddress) -> tuple[ipaddress.IPv4Address, ...]:
    """Return the IPv4 addresses embedded in an IPv6 address: mapped, translated, NAT64, 6to4, Teredo, ISATAP.

    Source: RFC 4291 2.5.5, RFC 2765, RFC 6052, RFC 8215, RFC 3056, RFC 4380, RFC 5214.
    """
    if isinstance(found, ipaddress.IPv4Address) or found.is_loopback or found.is_unspecified:
        return ()
    if found.ipv4_mapped is not None:
        return (found.ipv4_mapped,)
    if found.sixtofour is not None:
        return (found.sixtofour,)
    if found.teredo is not None:
        return found.teredo
    isatap = (int(found) >> 32) & 0xFDFFFFFF == _ISATAP
    return (ipaddress.IPv4Address(int(found) & 0xFFFFFFFF),) if isatap or _within(found, *_LAST_BITS) else ()


def _within(found: IPAddress, *networks: str) -> bool:
    return any(found in _network(text) for text in networks)


@lru_cache(maxsize=32)
def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text)
