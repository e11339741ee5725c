"""Gives a program its own network: loopback only, or outbound through slirp4netns.

The network belongs to the outer user namespace of `enter`, so the program can't change its routes. slirp4netns runs
in the worker's network as that namespace's root, where the program can neither see nor reach it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import signal
import socket
import struct
import sys
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from delivery_chain.builders.buildah.namespace_root import Libc

NAME_SERVER = "10.0.2.3"
"""slirp4netns's own name server, which forwards to the worker's."""
_METADATA = IPv4Network("169.254.0.0/16")
_OWN = re.compile(r"\|-- (\S+)\n\s+/32 host LOCAL")
_PARENT_DEATH_SIGNAL = 1
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1
_NEW_ROUTE, _ROUTE_FLAGS = 24, 0x001 | 0x004 | 0x200 | 0x400
"""RTM_NEWROUTE; request, acknowledge, exclusive, create. Source: rtnetlink(7)."""
_MAIN_TABLE, _BY_ADMINISTRATOR, _UNREACHABLE, _DESTINATION = 254, 4, 7, 1


def own_addresses() -> list[IPv4Network]:
    """The IPv4 addresses of this machine, except its loopback."""
    found = {IPv4Address(one) for one in _OWN.findall(Path("/proc/self/net/fib_trie").read_text())}
    return [IPv4Network(one) for one in sorted(found) if not one.is_loopback]


def prepare() -> None:
    """Bring up the loopback of a new network; all users may bind all its ports, as is usual in builders."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        flags = struct.unpack("16sh", fcntl.ioctl(control, _GET_FLAGS, struct.pack("16sh", b"lo", 0)))[1]
        fcntl.ioctl(control, _SET_FLAGS, struct.pack("16sh", b"lo", flags | _UP))
    with contextlib.suppress(OSError):
        Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").write_text("0")


class Outwards:
    """A slirp4netns process for a network that this process will create, started in the current network."""

    def __init__(self, libc: Libc) -> None:
        self._ours, theirs = socket.socketpair()
        self._ready, ready = os.pipe()
        self._log = os.memfd_create("slirp4netns")
        parent = os.getpid()
        if os.fork() == 0:
            libc.call("prctl", _PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:
                sys.exit(1)
            self._ours.close()
            _, descriptors, _, _ = socket.recv_fds(theirs, 1, 1)
            _become_slirp(descriptors[0], ready, self._log)
        os.close(ready)
        theirs.close()

    def lead(self, *, closed: Sequence[IPv4Network]) -> None:
        """Connect this process's current network to the outside, and block addresses that must not be reached.

        Args:
            closed: The worker's addresses. Its loopback and the cloud's metadata service are always blocked.
        """
        inside = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        socket.send_fds(self._ours, [b"x"], [inside])
        os.close(inside)
        self._ours.close()
        # slirp4netns closes its end of the pipe if it fails.
        if os.read(self._ready, 1) != b"1":
            os.lseek(self._log, 0, os.SEEK_SET)
            said = os.read(self._log, 4096).decode(errors="replace").strip().splitlines()
            # The reason precedes the last line, which only says that a child process failed.
            sys.exit(f"enter: slirp4netns did not start: {'; '.join(said) or 'it printed nothing'}")
        os.close(self._ready)
        os.close(self._log)
        for network in (*closed, _METADATA):
            _close(network)


def _become_slirp(network: int, ready: int, log: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    for descriptor in (network, ready):
        os.set_inheritable(descriptor, True)  # noqa: FBT003 - its only form
    options = ["--configure", "--mtu=65520", "--disable-host-loopback", f"--ready-fd={ready}"]
    # It gets its own pid namespace, so that it sees no other processes.
    own = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]
    slirp = ["slirp4netns", *options, "--netns-type=path", f"/proc/self/fd/{network}", "tap0"]
    os.execvp(own[0], [*own, *slirp])  # noqa: S606 - a list, and no shell


def _close(network: IPv4Network) -> None:
    """Make a network unreachable from this namespace."""
    route = struct.pack(
        "BBBBBBBBI",
        socket.AF_INET,
        network.prefixlen,
        0,
        0,
        _MAIN_TABLE,
        _BY_ADMINISTRATOR,
        0,
        _UNREACHABLE,
        0,
    ) + struct.pack("HH4s", 8, _DESTINATION, network.network_address.packed)
    header = struct.pack("IHHII", 16 + len(route), _NEW_ROUTE, _ROUTE_FLAGS, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as control:
        control.send(header + route)
        code = -struct.unpack_from("i", control.recv(4096), 16)[0]
    if code not in {0, errno.EEXIST}:
        sys.exit(f"enter: {network} could not be closed: {os.strerror(code)}")
