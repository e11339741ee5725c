"""Creates the root folder of a program that `enter` runs: the machine's programs and libraries, and chosen folders."""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from delivery_chain.builders.buildah.namespace_network import NAME_SERVER

if TYPE_CHECKING:
    from collections.abc import Sequence

INSIDE = Path("/mnt")
"""Inside, the mount point of the folders; outside, a folder that every machine has, on which the new root is built."""
PROGRAMS = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
SETTINGS = ("alternatives", "ca-certificates", "pki", "ssl")
"""Folders of /etc that are bind-mounted, read-only."""
REGISTRY_SETTINGS = ("containers",)
FILES = ("gai.conf", "host.conf", "ld.so.cache", "localtime", "nsswitch.conf", "protocols", "services")
"""Files of /etc that are copied."""
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
TUNNEL = "net/tun"
_NEW_MOUNTS = 0x00020000
_BIND, _REC, _PRIVATE, _REMOUNT, _DETACH = 4096, 16384, 1 << 18, 32, 2
_READ_ONLY, _NO_SETUID, _NO_DEVICES, _NO_PROGRAMS = 1, 2, 4, 8


class Libc:
    """System calls that Python does not wrap."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    def call(self, name: str, *arguments: object) -> None:
        """Call a function; exit with a message if it fails."""
        if getattr(self._libc, name)(*arguments) != 0:
            shown = " ".join(os.fsdecode(one) for one in arguments if isinstance(one, bytes))
            sys.exit(f"enter: {name} {shown}: {os.strerror(ctypes.get_errno())}")

    def bind(self, source: Path, target: Path, *, flags: int = 0) -> None:
        """Bind-mount a file or folder to `target`, which is created."""
        if source.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        self.call("mount", bytes(source), bytes(target), None, _BIND | _REC, None)
        if flags:
            # Inside a user namespace the source's mount flags can't be cleared. Elsewhere they are, because
            # `RUN --mount` of the context is refused if it would have to clear one.
            inside = not _is_first_namespace()
            given = os.statvfs(source).f_flag & (_NO_SETUID | _NO_DEVICES | _NO_PROGRAMS) if inside else 0
            self.call("mount", None, bytes(target), None, _BIND | _REMOUNT | flags | given, None)


def _is_first_namespace() -> bool:
    return Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]


def cover(libc: Libc, source: Path, target: Path) -> None:
    """Bind-mount a file or folder over another one."""
    libc.call("mount", bytes(source), bytes(target), None, _BIND, None)


def new_root(
    libc: Libc,
    folders: Sequence[tuple[Path, str, bool]],
    *,
    registry_settings: bool,
    worker_network: bool,
) -> None:
    """Create a root folder with only the files that a build needs, and make it this process's root.

    Args:
        libc: For system calls.
        folders: For each folder: its path, its name below `INSIDE`, and whether it is writable.
        registry_settings: Whether to include the machine's registry settings.
        worker_network: Whether the program shares the machine's network, and so its host names and loopback.
    """
    os.umask(0o022)
    root = INSIDE
    libc.call("unshare", _NEW_MOUNTS)
    libc.call("mount", b"none", b"/", None, _REC | _PRIVATE, None)
    # The sources may be below the folder that is mounted over next.
    held = [os.open(path, os.O_PATH | os.O_CLOEXEC) for path, _, _ in folders]
    libc.call("mount", b"tmpfs", bytes(root), b"tmpfs", _NO_SETUID, b"mode=755,size=16m")
    _system(libc, root, SETTINGS + (REGISTRY_SETTINGS if registry_settings else ()))
    _names(root / "etc", worker_network=worker_network)
    _devices(libc, root / "dev")
    for name in ("proc", "sys"):
        libc.bind(Path("/") / name, root / name)
    for name in ("run", "tmp", "var/tmp", "var/lib", "var/cache", "root"):
        (root / name).mkdir(parents=True)
        (root / name).chmod(0o1777)
    for descriptor, (_, name, writable) in zip(held, folders, strict=True):
        flags = 0 if writable else _READ_ONLY
        libc.bind(Path(f"/proc/self/fd/{descriptor}"), root / "mnt" / name, flags=flags)
        os.close(descriptor)
    os.chdir(root)
    libc.call("pivot_root", b".", b".")
    libc.call("umount2", b".", _DETACH)
    os.chdir("/")


def _system(libc: Libc, root: Path, settings: Sequence[str]) -> None:
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
    for source in (*(Path("/etc") / name for name in settings), *extra):
        if source.is_absolute() and source.exists() and not (root / source.relative_to("/")).exists():
            libc.bind(source, root / source.relative_to("/"), flags=read_only)


def _names(etc: Path, *, worker_network: bool) -> None:
    """Write the files with host names and name servers; `resolv.private` is for an outbound-only network."""
    (etc / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    (etc / "resolv.conf").touch()
    (etc / "resolv.private").write_text(f"nameserver {NAME_SERVER}\n")
    for name in ("hosts", "resolv.conf") if worker_network else ("resolv.conf",):
        if (source := Path("/etc") / name).is_file():
            shutil.copyfile(source, etc / name)


def _devices(libc: Libc, dev: Path) -> None:
    (dev / "shm").mkdir(parents=True)
    (dev / "shm").chmod(0o1777)
    (dev / "pts").mkdir()
    (dev / "fd").symlink_to("/proc/self/fd")
    for name in DEVICES:
        libc.bind(Path("/dev") / name, dev / name)
    tunnel = Path("/dev") / TUNNEL
    if os.access(tunnel, os.R_OK | os.W_OK) and not tunnel.stat().st_mode & stat.S_IWOTH:
        # As udev does, let every user open it. The network namespace in which a tunnel is opened limits what it
        # can do: here, the build's own.
        (dev / TUNNEL).parent.mkdir()
        os.mknod(dev / TUNNEL, stat.S_IFCHR, os.makedev(10, 200))
        (dev / TUNNEL).chmod(0o666)
    elif tunnel.exists():
        libc.bind(tunnel, dev / TUNNEL)
