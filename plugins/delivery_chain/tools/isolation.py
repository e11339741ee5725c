"""How far a build is kept away from its worker; `docs/build-isolation.md` says what each kind closes.

Nothing here trusts that a kind works because its programs are installed: `choose` runs a small build.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import shutil
import sys
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from delivery_chain.errors import ConfigurationError, ToolError
from delivery_chain.tools import enter, process

if TYPE_CHECKING:
    from collections.abc import Callable

ID_COUNT = 65_536
"""Users that a build has; as many as images may name."""
_FIRST_ID, _ID_RANGES = 1_879_048_192, 4_000
"""Ids that no system hands out (systemd, "Users, Groups, UIDs and GIDs"), in ranges of `ID_COUNT`."""
_OWN_NAMESPACES = ("--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc", "--")


class Isolation(StrEnum):
    """What stands between a RUN step and the worker."""

    AUTO = "auto"
    """The strongest of the next two that works here; a build is refused when neither does."""
    CONTAINER = "container"
    """An OCI container of runc's in a user namespace: own processes, files, network, devices, seccomp."""
    NAMESPACES = "namespaces"
    """chroot in own user, process, mount, IPC and host name namespaces; the worker's network."""
    CHROOT = "chroot"
    """chroot only, with the worker's own user. For Dockerfiles as trusted as the worker itself."""


class Network(StrEnum):
    """Where RUN steps may connect to."""

    AUTO = "auto"
    """PRIVATE where it works, else HOST."""
    PRIVATE = "private"
    """Outwards through slirp4netns; not to the worker's loopback nor to its own addresses."""
    HOST = "host"
    """Whatever the worker reaches, its loopback included."""
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A way to build that works on this machine."""

    isolation: Isolation
    network: Network
    driver: str
    """Storage driver: `overlay`, or `vfs`, which copies every layer."""

    def __str__(self) -> str:
        return f"isolation {self.isolation}, network {self.network}, storage {self.driver}"


def choose(isolation: Isolation, network: Network, probe: Callable[[Sandbox], None]) -> Sandbox:
    """The strongest way to build that was asked for and that works here.

    Args:
        isolation: What was asked for.
        network: What was asked for.
        probe: Builds something small; raises ToolError where the way does not work.

    Raises:
        ConfigurationError: None works; the message says why for each. Not retryable.
        ToolMissing: There is no buildah. Not retryable.
    """
    process.require("buildah", process.base_env())
    reasons = []
    for sandbox in candidates(isolation, network):
        try:
            probe(sandbox)
        except ToolError as error:
            reasons.append(f"{sandbox}: {error.output[-1] if error.output else error}")
        else:
            return sandbox
    shown = "".join(f"\n    {reason}" for reason in reasons) or " no kind of isolation offers it"
    raise ConfigurationError(
        f"builds with isolation {isolation} and network {network}: expected a way that works on this worker, "
        f"found none; see docs/build-isolation.md.{shown}"
    )


def candidates(isolation: Isolation, network: Network) -> list[Sandbox]:
    """The ways that fit what was asked for, strongest first."""
    kinds = [Isolation.CONTAINER, Isolation.NAMESPACES] if isolation is Isolation.AUTO else [isolation]
    found = []
    for kind in kinds:
        # chroot has no network of its own: buildah pulls base images over the same one.
        offered = list(Network)[1:] if kind is Isolation.CONTAINER else [Network.HOST]
        if network is Network.AUTO:
            offered = [one for one in offered if one is not Network.NONE]
        else:
            offered = [one for one in offered if one is network]
        found += [Sandbox(kind, one, driver) for one in offered for driver in ("overlay", "vfs")]
    return found


def first_id(key: str) -> int | None:
    """First outside id of a build's users, different for most builds at a time; None without root.

    Args:
        key: Hex digits that name the build.
    """
    if os.geteuid() != 0:
        return None
    return _FIRST_ID + int(key[:8], 16) % _ID_RANGES * ID_COUNT


def entry(sandbox: Sandbox, build: Path, context: Path, first: int | None) -> list[str]:
    """The arguments before a program that make it run in its namespaces.

    Raises:
        ToolMissing: A program for it is missing. Not retryable.
    """
    if sandbox.isolation is Isolation.CHROOT:
        return []
    unshare = process.require("unshare", process.base_env())
    script = str(Path(enter.__file__).resolve())
    helper = [sys.executable, "-I", "-S", script]
    rest = [str(build), str(context), "--", unshare, *_OWN_NAMESPACES]
    if first is not None:
        return [*helper, str(first), str(ID_COUNT), *rest]
    process.require("newuidmap", process.base_env())
    # A new user namespace clears the order to die with the parent, so it is given again inside.
    setpriv = process.require("setpriv", process.base_env())
    user = [unshare, "--user", "--map-root-user", "--map-auto", "--"]
    return [*user, setpriv, "--pdeathsig", "KILL", "--", *helper, "0", "0", *rest]


def folders(sandbox: Sandbox, build: Path, context: Path) -> tuple[Path, Path]:
    """Where a program started with `entry` finds the build's folder and the context."""
    if sandbox.isolation is Isolation.CHROOT:
        return build, context
    return enter.INSIDE / "build", enter.INSIDE / "context"


def run_options(sandbox: Sandbox, build: Path) -> list[str]:
    """Options of `buildah bud` for RUN steps.

    Args:
        sandbox: The way to build.
        build: The build's folder as buildah sees it, with what `write_network` made.

    Raises:
        ToolMissing: There is no runc. Not retryable.
    """
    if sandbox.isolation is not Isolation.CONTAINER:
        # SYS_CHROOT is what the known way out of a chroot needs.
        return ["--isolation=chroot", "--cap-drop=CAP_SYS_CHROOT"]
    runc = process.require("runc", _with_sbin())
    options = ["--isolation=oci", f"--runtime={runc}", "--cgroupns=private", *_limits()]
    if sandbox.network is Network.HOST:
        return [*options, "--network=host"]
    options += ["--network=none", f"--volume={build}/hosts:/etc/hosts:ro"]
    if sandbox.network is Network.PRIVATE:
        options += [f"--volume={build}/resolv.conf:/etc/resolv.conf:ro", f"--hooks-dir={build}/hooks"]
    return options


@functools.cache
def _limits() -> tuple[str, ...]:
    """Limits of RUN steps; buildah's own may be above the worker's, which a runtime refuses."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    tasks = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    tasks = 4_096 if tasks == resource.RLIM_INFINITY else min(tasks, 4_096)
    return (f"--ulimit=nofile={files}:{files}", f"--ulimit=nproc={tasks}:{tasks}", "--ulimit=core=0:0")


_HOOK = """#!/bin/sh
# Gives one RUN step a network of its own that leads outwards only.
set -u
cd "$(dirname "$0")" || exit 1
state=$(cat)
id=$(printf %s "$state" | sed -n 's/.*"id":"\\([A-Za-z0-9_-]*\\)".*/\\1/p')
if [ "$1" = poststop ]; then
  kill "$(cat "$id.slirp")" && rm -f "$id.slirp"
  exit 0
fi
pid=$(printf %s "$state" | sed -n 's/.*"pid":\\([0-9]*\\).*/\\1/p')
mkfifo "$id.ready" || exit 1
slirp4netns --configure --mtu=65520 --disable-host-loopback --ready-fd=3 "$pid" tap0 \\
  3>"$id.ready" </dev/null >/dev/null 2>"$id.log" &
echo $! >"$id.slirp"
[ "$(head -c 1 "$id.ready")" = 1 ] || { cat "$id.log" >&2; exit 1; }
rm -f "$id.ready"
# The worker's own addresses and the cloud's metadata service.
own=$(ip -4 -o addr show scope global | sed -n 's/.* inet \\([0-9.]*\\).*/\\1/p')
for address in $own 169.254.0.0/16; do
  nsenter --net="/proc/$pid/ns/net" ip route add unreachable "$address" || exit 1
done
"""


def write_network(sandbox: Sandbox, real: Path, seen: Path) -> None:
    """Write what `run_options` names.

    Args:
        sandbox: The way to build.
        real: The build's folder.
        seen: The same folder as buildah sees it.

    Raises:
        ToolMissing: A program for a private network is missing. Not retryable.
    """
    (real / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    (real / "resolv.conf").write_text("nameserver 10.0.2.3\n")
    if sandbox.network is not Network.PRIVATE:
        return
    for tool in ("slirp4netns", "ip", "nsenter"):
        process.require(tool, _with_sbin())
    hooks = real / "hooks"
    hooks.mkdir()
    script = hooks / "network"
    script.write_text(_HOOK)
    script.chmod(0o755)
    for stage in ("prestart", "poststop"):
        (hooks / f"{stage}.json").write_text(
            json.dumps(
                {
                    "version": "1.0.0",
                    "hook": {"path": f"{seen}/hooks/network", "args": ["network", stage]},
                    "when": {"always": True},
                    "stages": [stage],
                }
            )
        )


def _with_sbin() -> dict[str, str]:
    env = process.base_env()
    return env | {"PATH": f"{env['PATH']}:/usr/local/sbin:/usr/sbin:/sbin"}


def remove(folder: Path) -> None:
    """Remove a build's folder, whoever owns what is in it.

    Raises:
        OSError: It could not be removed.
    """
    if os.geteuid() != 0 and folder.exists():
        unshare = shutil.which("unshare")
        if unshare is not None:
            _remove_as_mapped_root(unshare, folder)
    if folder.exists():
        shutil.rmtree(folder)


def _remove_as_mapped_root(unshare: str, folder: Path) -> None:
    argv = [unshare, "--user", "--map-root-user", "--map-auto", "--", "rm", "-rf", "--", str(folder)]
    process.run(argv, tool="rm", env=process.base_env(), deadline=time.monotonic() + 300, check=False)
