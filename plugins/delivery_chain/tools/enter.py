"""Runs a program in a root folder and a user namespace of its own, with nothing of the machine but programs.

Started as a script of its own, because only a fresh process may change its namespaces safely:

    python -I -S enter.py FIRST_ID COUNT BUILD_FOLDER CONTEXT_FOLDER -- program argument…

Ids 0 to COUNT-1 inside are FIRST_ID and up outside; this needs root. With COUNT 0 the caller made the user
namespace. The new root has programs, libraries and CA certificates (read-only), a few devices, BUILD_FOLDER
as `/mnt/build` and CONTEXT_FOLDER as `/mnt/context` (read-only). Not there: homes, other builds, Airflow.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import stat
import sys
from pathlib import Path

INSIDE = Path("/mnt")
"""Where the two folders are inside; outside, any folder that every machine has, to build the new root on."""
PROGRAMS = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
SETTINGS = ("alternatives", "ca-certificates", "containers", "pki", "ssl")
"""Folders of /etc that are shown, read-only."""
FILES = (
    "gai.conf",
    "host.conf",
    "hosts",
    "ld.so.cache",
    "localtime",
    "nsswitch.conf",
    "protocols",
    "resolv.conf",
    "services",
)
"""Files of /etc that are copied."""
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
TUNNEL = "net/tun"
_NEW_MOUNTS, _NEW_USERS = 0x00020000, 0x10000000
_BIND, _REC, _PRIVATE, _REMOUNT, _DETACH = 4096, 16384, 1 << 18, 32, 2
_READ_ONLY, _NO_SETUID, _NO_DEVICES, _NO_PROGRAMS = 1, 2, 4, 8
_PARENT_DEATH_SIGNAL = 1


class Libc:
    """The system calls that Python has no function for."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def call(self, name: str, *arguments: object) -> None:
        """Call a function; end the program with a message when it fails."""
        if getattr(self._libc, name)(*arguments) != 0:
            shown = " ".join(os.fsdecode(one) for one in arguments if isinstance(one, bytes))
            sys.exit(f"enter: {name} {shown}: {os.strerror(ctypes.get_errno())}")

    def bind(self, source: Path, target: Path, *, flags: int = 0) -> None:
        """Show a file or folder at another place, which is made."""
        if source.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        self.call("mount", bytes(source), bytes(target), None, _BIND | _REC, None)
        if flags:
            # Inside a user namespace the flags that the source has can't be taken away. Otherwise they are:
            # `RUN --mount` of the context is refused where it would have to drop one.
            inside = not _is_first_namespace()
            given = os.statvfs(source).f_flag & (_NO_SETUID | _NO_DEVICES | _NO_PROGRAMS) if inside else 0
            self.call("mount", None, bytes(target), None, _BIND | _REMOUNT | flags | given, None)


def _is_first_namespace() -> bool:
    return Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]


def new_root(libc: Libc, build: Path, context: Path) -> None:
    """Make a root folder with only what a build needs, and go there."""
    root = INSIDE
    libc.call("unshare", _NEW_MOUNTS)
    libc.call("mount", b"none", b"/", None, _REC | _PRIVATE, None)
    # The sources may be below the folder that is covered next.
    held = [os.open(path, os.O_PATH | os.O_CLOEXEC) for path in (build, context)]
    libc.call("mount", b"tmpfs", bytes(root), b"tmpfs", _NO_SETUID, b"mode=755,size=16m")
    _system(libc, root)
    _devices(libc, root / "dev")
    for name in ("proc", "sys"):
        libc.bind(Path("/") / name, root / name)
    for name in ("run", "tmp", "var/tmp", "var/lib", "var/cache", "root"):
        (root / name).mkdir(parents=True)
        (root / name).chmod(0o1777)
    for descriptor, name, flags in zip(held, ("build", "context"), (0, _READ_ONLY), strict=True):
        libc.bind(Path(f"/proc/self/fd/{descriptor}"), root / "mnt" / name, flags=flags)
    os.chdir(root)
    libc.call("pivot_root", b".", b".")
    libc.call("umount2", b".", _DETACH)
    os.chdir("/")


def _system(libc: Libc, root: Path) -> None:
    read_only = _READ_ONLY | _NO_DEVICES
    for name in PROGRAMS:
        source = Path("/") / name
        if source.is_symlink():
            (root / name).symlink_to(source.readlink())
        elif source.is_dir():
            libc.bind(source, root / name, flags=read_only)
    etc = root / "etc"
    etc.mkdir()
    (etc / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (etc / "group").write_text("root:x:0:\n")
    for name in FILES:
        if (source := Path("/etc") / name).is_file():
            shutil.copyfile(source, etc / name)
    extra = [Path(os.environ[name]) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)]
    for source in (*(Path("/etc") / name for name in SETTINGS), *extra):
        if source.is_absolute() and source.exists() and not (root / source.relative_to("/")).exists():
            libc.bind(source, root / source.relative_to("/"), flags=read_only)


def _devices(libc: Libc, dev: Path) -> None:
    (dev / "shm").mkdir(parents=True)
    (dev / "shm").chmod(0o1777)
    (dev / "pts").mkdir()
    (dev / "fd").symlink_to("/proc/self/fd")
    for name in DEVICES:
        libc.bind(Path("/dev") / name, dev / name)
    tunnel = Path("/dev") / TUNNEL
    if os.access(tunnel, os.R_OK | os.W_OK) and not tunnel.stat().st_mode & stat.S_IWOTH:
        # Every user may open it where udev runs. What a tunnel can do depends on who owns the network
        # namespace it is opened in: here only the build's own.
        (dev / TUNNEL).parent.mkdir()
        os.mknod(dev / TUNNEL, stat.S_IFCHR, os.makedev(10, 200))
        (dev / TUNNEL).chmod(0o666)
    elif tunnel.exists():
        libc.bind(tunnel, dev / TUNNEL)


def _child(libc: Libc, asked: int, answered: int, argv: list[str]) -> None:
    libc.call("unshare", _NEW_USERS)
    os.write(asked, b"x")
    if os.read(answered, 1) != b"x":
        sys.exit("enter: the ids of the user namespace could not be set")
    os.setgroups([])
    os.setgid(0)
    os.setuid(0)
    # After the change of ids, which clears it.
    libc.call("prctl", _PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    os.execvp(argv[0], argv)  # noqa: S606 - a list, and no shell


def main(arguments: list[str]) -> int:
    """Run the program and return its exit code."""
    first, count, build, context, _, *argv = arguments
    libc = Libc()
    if int(count) == 0:
        new_root(libc, Path(build), Path(context))
        os.execvp(argv[0], argv)  # noqa: S606 - a list, and no shell
    asked_read, asked = os.pipe()
    answered, answer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(asked_read)
        os.close(answer)
        new_root(libc, Path(build), Path(context))
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
