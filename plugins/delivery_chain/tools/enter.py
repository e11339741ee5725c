"""Runs a program as the root of a user namespace whose users are nobody on this machine.

Started as a script of its own, because only a fresh process may change its namespaces safely:

    python -I -S enter.py FIRST_ID COUNT BUILD_FOLDER CONTEXT_FOLDER -- program argument…

Ids 0 to COUNT-1 inside are FIRST_ID and up outside. BUILD_FOLDER appears as `/mnt/build`, CONTEXT_FOLDER as
`/mnt/context` (read-only), so that the folders above them can stay closed to the build's users. Needs root.
"""

from __future__ import annotations

import ctypes
import os
import signal
import stat
import sys
from pathlib import Path

INSIDE = Path("/mnt")
"""Any folder that every machine has; it is covered in the program's own mount namespace only."""
TUNNEL = Path("/dev/net/tun")
_NEW_MOUNTS, _NEW_USERS = 0x00020000, 0x10000000
_BIND, _REC, _PRIVATE, _REMOUNT = 4096, 16384, 1 << 18, 32
_READ_ONLY, _NO_SETUID, _NO_DEVICES = 1, 2, 4
_PARENT_DEATH_SIGNAL = 1


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        sys.exit(f"enter: {what}: {os.strerror(number)}")


def _mounts(libc: ctypes.CDLL, build: str, context: str) -> None:
    _check(libc.unshare(_NEW_MOUNTS), "own mount namespace")
    _check(libc.mount(b"none", b"/", None, _REC | _PRIVATE, None), "private mounts")
    flags = _NO_SETUID | _NO_DEVICES
    _check(
        libc.mount(b"tmpfs", bytes(INSIDE), b"tmpfs", _NO_SETUID, b"mode=755,size=64k"), "folder for mounts"
    )
    _share_tunnel(libc)
    for source, name, options in ((build, "build", 0), (context, "context", _READ_ONLY | flags)):
        target = INSIDE / name
        target.mkdir()
        _check(libc.mount(os.fsencode(source), bytes(target), None, _BIND | _REC, None), f"mount of {name}")
        if options:
            _check(
                libc.mount(None, bytes(target), None, _BIND | _REMOUNT | options, None), f"options of {name}"
            )


def _share_tunnel(libc: ctypes.CDLL) -> None:
    """Let the namespace's root open `/dev/net/tun`, as every user may where udev runs.

    What a tunnel can do depends on who owns the network namespace: here only the build's own.
    """
    node = INSIDE / "tun"
    if TUNNEL.exists():
        os.mknod(node, stat.S_IFCHR, os.makedev(10, 200))
        node.chmod(0o666)
        _check(libc.mount(bytes(node), bytes(TUNNEL), None, _BIND, None), "mount of the tunnel device")


def _child(libc: ctypes.CDLL, asked: int, answered: int, argv: list[str]) -> None:
    _check(libc.unshare(_NEW_USERS), "own user namespace")
    os.write(asked, b"x")
    if os.read(answered, 1) != b"x":
        sys.exit("enter: the ids of the user namespace could not be set")
    os.setgroups([])
    os.setgid(0)
    os.setuid(0)
    # After the change of ids, which clears it.
    _check(libc.prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0), "death with the parent")
    os.chdir(INSIDE)
    os.execvp(argv[0], argv)  # noqa: S606 - a list, and no shell


def main(arguments: list[str]) -> int:
    """Run the program and return its exit code."""
    first, count, build, context, _, *argv = arguments
    libc = ctypes.CDLL(None, use_errno=True)
    asked_read, asked = os.pipe()
    answered, answer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(asked_read)
        os.close(answer)
        _mounts(libc, build, context)
        _child(libc, asked, answered, argv)
    os.close(asked)
    if os.read(asked_read, 1):
        for kind in ("uid", "gid"):
            Path(f"/proc/{pid}/{kind}_map").write_text(f"0 {int(first)} {int(count)}")
        os.write(answer, b"x")
    os.close(answer)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
