"""Runs a program in its own root folder, user namespaces and network, with only programs shared from the machine.

It is a separate process, because only a fresh one can change its namespaces safely. Two user namespaces are nested. The
outer one owns the network and starts slirp4netns. The inner one is the program's: it has all ids of the outer
one except root, so the program's root has no rights over the network, slirp4netns, or files that the worker wrote.

The new root contains programs, libraries and CA certificates (read-only), a few devices, and the order's folders
below `/mnt`. It does not contain homes, other builds, or Airflow.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from delivery_chain.builders.buildah import namespace_network
from delivery_chain.builders.buildah.namespace_root import Libc, cover, new_root

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_NEW_MOUNTS, _NEW_USERS, _NEW_NETWORK = 0x00020000, 0x10000000, 0x40000000
_PARENT_DEATH_SIGNAL, _SET_DUMPABLE = 1, 4
_IDS = ("uid", "gid")


class Order(NamedTuple):
    """The namespaces and root folder to create. Serializes to JSON."""

    first: int | None
    """First id, outside, that the outer user namespace maps to; needs root. None if the caller has created it."""
    ids: int
    """Number of the program's ids, if the outer user namespace is created here."""
    network: str
    """`host`, `none`, or `private` (outbound only)."""
    folders: Sequence[tuple[str, str, bool]]
    """For each folder: its path, its name below `/mnt`, and whether it is writable."""
    handed: Sequence[str]
    """Folders whose owner becomes the program's root."""
    registry_settings: bool
    """Whether to include `/etc/containers`, for programs that fetch images."""

    def command(self, program: Sequence[str]) -> list[str]:
        """Return the command line that runs a program according to this order."""
        code = (
            "import sys; sys.path.append(sys.argv.pop(1)); "
            "from delivery_chain.builders.buildah import namespace_entry as entry; sys.exit(entry.main(sys.argv[1:]))"
        )
        packages = str(Path(__file__).resolve().parents[3])
        return [sys.executable, "-I", "-S", "-c", code, packages, json.dumps(self), *program]


def main(arguments: Sequence[str]) -> int:
    """Run the program named after the order in the arguments, and return its exit code."""
    order, program = Order(*json.loads(arguments[0])), arguments[1:]
    libc = Libc()
    if order.first is None:
        _hand_over(order.handed, 1)
        _root(libc, order)
        return _outer(libc, order, program)
    _hand_over(order.handed, order.first + 1)
    return _in_new_users(
        libc,
        f"0 {order.first} {order.ids + 1}",
        lambda: _outer(libc, order, program),
        before=lambda: _root(libc, order),
    )


def _hand_over(folders: Sequence[str], owner: int) -> None:
    """Change the owner of this user's folders to the program's root; their contents are unchanged."""
    for folder in folders:
        if os.lstat(folder).st_uid == os.geteuid():
            os.chown(folder, owner, owner, follow_symlinks=False)


def _root(libc: Libc, order: Order) -> None:
    folders = [(Path(folder), name, writable) for folder, name, writable in order.folders]
    new_root(libc, folders, registry_settings=order.registry_settings, worker_network=order.network == "host")


def _outer(libc: Libc, order: Order, program: Sequence[str]) -> int:
    """As root of the outer user namespace, create the network, then run the program in the inner one."""
    if order.network != "host":
        own = namespace_network.own_addresses()
        outwards = namespace_network.Outwards(libc) if order.network == "private" else None
        libc.call("unshare", _NEW_NETWORK)
        namespace_network.prepare()
        if outwards:
            outwards.lead(closed=own)
        # slirp4netns still sees the worker's own file.
        libc.call("unshare", _NEW_MOUNTS)
        cover(libc, Path("/etc/resolv.private"), Path("/etc/resolv.conf"))
    return _in_new_users(libc, f"0 1 {_count()}", lambda: os.execvp(program[0], list(program)))  # noqa: S606


def _count() -> int:
    """Number of ids in this user namespace besides root; the smaller number of users and groups."""
    counts = []
    for kind in _IDS:
        lines = Path(f"/proc/self/{kind}_map").read_text().splitlines()
        counts.append(max(int(inside) + int(length) for inside, _, length in map(str.split, lines)) - 1)
    return min(counts)


def _in_new_users(
    libc: Libc, ids: str, run: Callable[[], int], *, before: Callable[[], None] = lambda: None
) -> int:
    """Fork; in the child call `before`, create a user namespace with the given id map, and call `run`.

    Returns:
        The exit code of `run`, or of the program it executed.
    """
    asked_read, asked = os.pipe()
    answered, answer = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.close(asked_read)
        os.close(answer)
        before()
        libc.call("unshare", _NEW_USERS)
        # Otherwise the machine's root owns this process's files in /proc, through which the ids are set.
        libc.call("prctl", _SET_DUMPABLE, 1, 0, 0, 0)
        os.write(asked, b"x")
        if os.read(answered, 1) != b"x":
            sys.exit("enter: the ids of the user namespace could not be set")
        os.setgroups([])
        os.setgid(0)
        os.setuid(0)
        # Set after the change of ids, which clears this setting.
        libc.call("prctl", _PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit("enter: the worker has exited")
        sys.exit(run())
    os.close(asked)
    if os.read(asked_read, 1):
        for kind in _IDS:
            Path(f"/proc/{pid}/{kind}_map").write_text(ids)
        os.write(answer, b"x")
    os.close(answer)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
