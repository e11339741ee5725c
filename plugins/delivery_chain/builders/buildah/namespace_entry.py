"""Runs a program in a root folder, user namespaces and a network of its own: nothing of the machine but programs.

Started as a process of its own, because only a fresh one may change its namespaces safely. There are two user
namespaces, one inside the other. The outer one owns the network and starts slirp4netns. The inner one is the
program's: it has all ids of the outer one but its root, so that the program's root has no right over the
network, over slirp4netns, or over what the worker wrote.

The new root has programs, libraries and CA certificates (read-only), a few devices, and the order's folders
below `/mnt`. Not there: homes, other builds, Airflow.
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
    """What to make. JSON both ways."""

    first: int | None
    """First outside id of the outer user namespace, which needs root; None: the caller has made it."""
    ids: int
    """Ids of the program, where the outer user namespace is made here."""
    network: str
    """`host`, `none`, or `private`: outwards only."""
    folders: Sequence[tuple[str, str, bool]]
    """Folder, its name below `/mnt`, and whether the program may write there."""
    handed: Sequence[str]
    """Folders that are given to the program's root."""
    registry_settings: bool
    """Whether `/etc/containers` is there: for what fetches images from registries."""

    def command(self, program: Sequence[str]) -> list[str]:
        """The arguments that run a program as ordered."""
        code = (
            "import sys; sys.path.append(sys.argv.pop(1)); "
            "from delivery_chain.builders.buildah import namespace_entry as entry; sys.exit(entry.main(sys.argv[1:]))"
        )
        packages = str(Path(__file__).resolve().parents[3])
        return [sys.executable, "-I", "-S", "-c", code, packages, json.dumps(self), *program]


def main(arguments: Sequence[str]) -> int:
    """Run the program that the arguments after the order name, and return its exit code."""
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
    """Give folders of this user's to the program's root; what is in them stays as it is."""
    for folder in folders:
        if os.lstat(folder).st_uid == os.geteuid():
            os.chown(folder, owner, owner, follow_symlinks=False)


def _root(libc: Libc, order: Order) -> None:
    folders = [(Path(folder), name, writable) for folder, name, writable in order.folders]
    new_root(libc, folders, registry_settings=order.registry_settings, worker_network=order.network == "host")


def _outer(libc: Libc, order: Order, program: Sequence[str]) -> int:
    """As root of the outer user namespace: make the network, then run the program in the inner one."""
    if order.network != "host":
        own = namespace_network.own_addresses()
        outwards = namespace_network.Outwards(libc) if order.network == "private" else None
        libc.call("unshare", _NEW_NETWORK)
        namespace_network.prepare()
        if outwards:
            outwards.lead(closed=own)
        # slirp4netns goes on seeing the worker's.
        libc.call("unshare", _NEW_MOUNTS)
        cover(libc, Path("/etc/resolv.private"), Path("/etc/resolv.conf"))
    return _in_new_users(libc, f"0 1 {_count()}", lambda: os.execvp(program[0], list(program)))  # noqa: S606


def _count() -> int:
    """Ids of this user namespace apart from its root, of users and of groups."""
    counts = []
    for kind in _IDS:
        lines = Path(f"/proc/self/{kind}_map").read_text().splitlines()
        counts.append(max(int(inside) + int(length) for inside, _, length in map(str.split, lines)) - 1)
    return min(counts)


def _in_new_users(
    libc: Libc, ids: str, run: Callable[[], int], *, before: Callable[[], None] = lambda: None
) -> int:
    """Fork; there call `before`, make a user namespace with the given map of ids, and call `run`.

    Returns:
        The exit code of `run`, or of what it became.
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
        # Otherwise this process's files in /proc, where the ids are set, belong to the machine's root.
        libc.call("prctl", _SET_DUMPABLE, 1, 0, 0, 0)
        os.write(asked, b"x")
        if os.read(answered, 1) != b"x":
            sys.exit("enter: the ids of the user namespace could not be set")
        os.setgroups([])
        os.setgid(0)
        os.setuid(0)
        # After the change of ids, which clears it.
        libc.call("prctl", _PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit("enter: the worker is gone")
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
