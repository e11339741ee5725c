"""Resolve a name once, check its addresses, and connect to exactly those, so that DNS rebinding has no effect."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from delivery_chain.errors import ProtocolViolation
from delivery_chain.oci.http.reachability import Reach, named_reach, reach

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from delivery_chain.oci.http.address_guard import Origin

Found = tuple[int, int, int, str, tuple[Any, ...]]
"""One result of `socket.getaddrinfo`: family, kind, protocol, name, and address with port."""
MOST_ADDRESSES = 8
"""Maximum number of addresses to try per name: a name may have many, and each can cost a timeout."""


class Resolver:
    """Resolver for a registry and the hosts it names. Thread-safe.

    A registry may only name addresses that are no closer to this machine than its own: a registry on the internet may
    not point into a private network, and none may point to this machine, unless the registry's own name denotes it.
    The registry's own name is the user's choice and may resolve to anything, but not to a closer address later on.
    """

    def __init__(self, home: Origin, private_hosts: Collection[str], *, proxied: bool) -> None:
        """Create a resolver; nothing is looked up yet.

        Args:
            home: The registry.
            private_hosts: Hosts in private networks that the user allows the registry to name; `*` for any.
            proxied: Whether the registry is reached through a proxy, which resolves names itself.
        """
        self._home = home
        self._private_hosts = frozenset(private_hosts)
        self._proxied = proxied
        self._first: frozenset[str] = frozenset()
        self._lock = threading.Lock()

    def look_up(self, origin: Origin) -> list[Found]:
        """Resolve an origin; every address returned is allowed.

        Raises:
            OSError: The name does not resolve.
            ProtocolViolation: The name resolves to an address that this registry may not name.
        """
        self.check_text(origin)
        found = _look_up(origin.host, origin.port)
        addresses = [str(one[4][0]) for one in found]
        if origin.host == self._home.host:
            self._check_home(addresses)
        else:
            for address in addresses:
                self._judge(origin, reach(address), address)
        return found

    def check_text(self, origin: Origin) -> None:
        """Check an origin without resolving it, because the proxy does that.

        Raises:
            ProtocolViolation: The origin is an address that this registry may not name.
        """
        if origin.host == self._home.host:
            return
        try:
            found = named_reach(origin.host)
        except ValueError as error:
            raise ProtocolViolation(f"{self._home}: it points to {origin}: {error}") from None
        self._judge(origin, found, origin.host)

    def _check_home(self, addresses: Sequence[str]) -> None:
        with self._lock:
            self._first = self._first or frozenset(addresses)
            limit = min(map(reach, self._first))
            closer = [one for one in addresses if one not in self._first and reach(one) > limit]
        if closer:
            raise ProtocolViolation(
                f"{self._home}: its name resolved to {', '.join(sorted(self._first))} before and now to {closer[0]}, "
                "which is closer to this machine. If that is intended, use that address in the connection"
            )

    def _judge(self, origin: Origin, found: Reach, address: str) -> None:
        if found is Reach.PUBLIC or (found is not Reach.NOBODY and found <= self._limit(origin.host)):
            return
        advice = ""
        if found is Reach.PRIVATE:
            advice = (
                ". It is in a private network, and the registry is not; if that is intended, list "
                f"{origin.host} under private_hosts in the registry's connection"
            )
        raise ProtocolViolation(
            f"{self._home}: it points to {origin}, which is {address}: not allowed{advice}"
        )

    def _limit(self, host: str) -> Reach:
        if self._home.loopback:
            return Reach.MACHINE
        if {host, "*"} & self._private_hosts:
            return Reach.PRIVATE
        return min(self._home_reach(), Reach.PRIVATE)

    def _home_reach(self) -> Reach:
        if self._proxied:
            return _text_reach(self._home.host)
        with self._lock:
            first = self._first
        if not first:
            # Nothing has connected to the registry itself yet, such as when an upload is resumed after a restart.
            try:
                self.look_up(self._home)
            except OSError:
                return Reach.PUBLIC
        return min(map(reach, self._first))


def dial(found: Sequence[Found], timeout: float) -> socket.socket:
    """Connect to the first address that accepts, without resolving any name.

    Args:
        found: Addresses from `Resolver.look_up`.
        timeout: Seconds for each address; all of them together get twice that.

    Raises:
        OSError: No address accepted; this is the error of the last one.
    """
    until = time.monotonic() + 2 * timeout
    last: OSError = TimeoutError("timed out")
    for family, kind, protocol, _, address in found[:MOST_ADDRESSES]:
        left = min(timeout, until - time.monotonic())
        if left <= 0:
            break
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(left)
            connection.connect(address)
        except OSError as error:
            connection.close()
            last = error
        else:
            connection.settimeout(timeout)
            return connection
    raise last


def _look_up(host: str, port: int) -> list[Found]:
    try:
        return [*socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except UnicodeError as error:  # A label of more than 63 characters.
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from error


def _text_reach(host: str) -> Reach:
    try:
        return named_reach(host)
    except ValueError:
        return Reach.PUBLIC
