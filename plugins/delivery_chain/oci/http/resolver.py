"""Names to addresses: looked up once, judged, and connected to as judged, so that no second answer counts."""

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
"""One address as `socket.getaddrinfo` gives it: family, kind, protocol, name, and address with port."""
MOST_ADDRESSES = 8
"""Addresses of one name that are tried: a name may have any number, each good for a timeout."""


class Resolver:
    """Gives the addresses of a registry, and of places that it sends us to. Safe to use from threads.

    A registry may send us to addresses that are no closer to us than its own: one on the internet not into a
    private network, and none to this machine, unless the registry's own name says this machine. Its own name is
    the user's choice and may lead anywhere, but not closer later than at first.
    """

    def __init__(self, home: Origin, private_hosts: Collection[str], *, proxied: bool) -> None:
        """Look nothing up yet.

        Args:
            home: The registry.
            private_hosts: Hosts in private networks that the user lets it send us to; `*` for any.
            proxied: Whether the registry is reached by a proxy, which looks names up itself.
        """
        self._home = home
        self._private_hosts = frozenset(private_hosts)
        self._proxied = proxied
        self._first: frozenset[str] = frozenset()
        self._lock = threading.Lock()

    def look_up(self, origin: Origin) -> list[Found]:
        """The addresses behind an origin, all of them allowed.

        Raises:
            OSError: The name is not known.
            ProtocolViolation: It leads to an address that this registry may not send us to.
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
        """Judge what can be told without looking a name up: that is left to the proxy.

        Raises:
            ProtocolViolation: An address that this registry may not send us to.
        """
        if origin.host == self._home.host:
            return
        try:
            found = named_reach(origin.host)
        except ValueError as error:
            raise ProtocolViolation(f"{self._home}: it sent us to {origin}: {error}") from None
        self._judge(origin, found, origin.host)

    def _check_home(self, addresses: Sequence[str]) -> None:
        with self._lock:
            self._first = self._first or frozenset(addresses)
            limit = min(map(reach, self._first))
            closer = [one for one in addresses if one not in self._first and reach(one) > limit]
        if closer:
            raise ProtocolViolation(
                f"{self._home}: its name led to {', '.join(sorted(self._first))} and now to {closer[0]}, which is "
                "closer to this machine. If that is meant, name the registry by that address"
            )

    def _judge(self, origin: Origin, found: Reach, address: str) -> None:
        if found is Reach.PUBLIC or (found is not Reach.NOBODY and found <= self._limit(origin.host)):
            return
        advice = ""
        if found is Reach.PRIVATE:
            advice = (
                ". That is in a private network, and the registry is not; if it belongs there, list "
                f"{origin.host} under private_hosts in the registry's connection"
            )
        raise ProtocolViolation(
            f"{self._home}: it sent us to {origin}, which is {address}: not allowed{advice}"
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
            # The first place we go to for it is not its own: an upload that goes on after a restart.
            try:
                self.look_up(self._home)
            except OSError:
                return Reach.PUBLIC
        return min(map(reach, self._first))


def dial(found: Sequence[Found], timeout: float) -> socket.socket:
    """A connection to the first of some addresses that takes one; no name is looked up.

    Args:
        found: What `Resolver.look_up` gave.
        timeout: Seconds for each; twice that for all.

    Raises:
        OSError: None took it, with the last one's reason.
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
