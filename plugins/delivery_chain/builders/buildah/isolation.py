"""How far a build is kept away from its worker; `docs/build-isolation.md` says what each kind closes.

Nothing here trusts that a kind works because its programs are installed: `choose` runs a small build.
"""

from __future__ import annotations

import functools
import os
import re
import resource
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from delivery_chain.builders.buildah.namespace_entry import Order
from delivery_chain.builders.buildah.namespace_root import INSIDE, PROGRAMS
from delivery_chain.errors import ConfigurationError, ProbeFailed, ToolError, ToolMissing, ToolTimeout
from delivery_chain.tools import process

if TYPE_CHECKING:
    from collections.abc import Callable

ID_COUNT = 65_536
"""Users that a build has; as many as images may name."""
_FIRST_ID, _ID_RANGES = 1_879_048_192, 4_000
"""Ids that no system hands out (systemd, "Users, Groups, UIDs and GIDs"), in ranges of one more than `ID_COUNT`:
a range's first is that of what surrounds the build."""
_OWN_NAMESPACES = ("--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc", "--")


class Isolation(StrEnum):
    """What stands between a RUN step and the worker."""

    AUTO = "auto"
    """The strongest of the next two that works here; a build is refused when neither does."""
    CONTAINER = "container"
    """An OCI container of runc's in a user namespace: own processes, files, network, devices, seccomp."""
    NAMESPACES = "namespaces"
    """chroot in own user, process, mount, IPC and host name namespaces."""
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


TRIES = 3
"""How often a way to build is tried that fails for a reason which may pass."""
_REFUSED = re.compile(
    r"operation not permitted|permission denied|not supported|does not support|invalid argument"
    r"|function not implemented|no such device|read-only file system|cgroup|sub[ug]id|new[ug]idmap"
    r"|unshare\b.*(?:no space left on device|too many users)|/dev/net/tun\b.*no such file",
    re.IGNORECASE,
)
"""What the kernel, a runtime or a missing range of ids says where a kind of isolation can't be had.

`unshare` finds no space where the number of namespaces is limited to none (user.max_user_namespaces).
"""


def choose(isolation: Isolation, network: Network, probe: Callable[[Sandbox], None]) -> Sandbox:
    """The strongest way to build that was asked for and that works here.

    A way is passed over for two reasons only: a program of it is not installed, or this machine refuses it. A
    probe that fails otherwise, such as by a time-out or a full disk, says nothing about the way: it is tried
    again, and then is an error.

    Args:
        isolation: What was asked for.
        network: What was asked for.
        probe: Builds something small; raises ToolError where the way does not work.

    Raises:
        ConfigurationError: None works; the message says why for each. Or a program is where no sandbox shows
            it. Not retryable.
        ToolMissing: There is no buildah. Not retryable.
        ProbeFailed: A way could not be tried. Retryable.
    """
    process.require("buildah", process.base_env())
    reasons = []
    for sandbox in candidates(isolation, network):
        refusal = _refusal(sandbox, probe)
        if refusal is None:
            return sandbox
        reasons.append(f"{sandbox}: {refusal}")
    shown = "".join(f"\n    {reason}" for reason in reasons) or " no kind of isolation offers it"
    raise ConfigurationError(
        f"builds with isolation {isolation} and network {network}: expected a way that works on this worker, "
        f"found none; see docs/build-isolation.md.{shown}"
    )


def _refusal(sandbox: Sandbox, probe: Callable[[Sandbox], None]) -> str | None:
    """Why a way does not work on this machine; None if it does.

    Raises:
        ProbeFailed: That can't be told. Retryable.
    """
    last: ToolError | None = None
    for _ in range(TRIES):
        try:
            probe(sandbox)
        except ToolMissing as error:
            return str(error)
        except ToolError as error:
            said = error.output[-1] if error.output else str(error)
            if not isinstance(error, ToolTimeout) and _REFUSED.search(said):
                return said
            last = error
        else:
            return None
    raise ProbeFailed(
        f"trial build with {sandbox}: expected it to work or to be refused by this machine, found {TRIES} "
        "failures of another kind; no weaker way is taken for that. A retry may help. The last one: "
        f"{last}",
        tool="buildah",
    ) from last


def candidates(isolation: Isolation, network: Network) -> list[Sandbox]:
    """The ways that fit what was asked for, strongest first."""
    kinds = [Isolation.CONTAINER, Isolation.NAMESPACES] if isolation is Isolation.AUTO else [isolation]
    found = []
    for kind in kinds:
        offered = [Network.HOST] if kind is Isolation.CHROOT else list(Network)[1:]
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
    return _FIRST_ID + int(key[:8], 16) % _ID_RANGES * (ID_COUNT + 1)


@dataclass(frozen=True, slots=True)
class Room:
    """The folders of one build, as they are on this machine."""

    work: Path
    """What buildah writes: `storage`, `run` and `tmp`."""
    settings: Path
    """What buildah reads. RUN steps never get to write there, nor does buildah."""
    context: Path
    """What COPY and ADD see; only read."""
    result: Path
    """Where a push says what it pushed."""


WRITTEN = ("storage", "run", "tmp")
"""Folders of `Room.work`."""


def entry(
    sandbox: Sandbox,
    room: Room,
    first: int | None,
    *,
    network: Network | None = None,
    registries: bool = False,
) -> list[str]:
    """The arguments before a program that make it run in its namespaces.

    Args:
        sandbox: The way to build.
        room: The build's folders.
        first: From `first_id`.
        network: Another network than the sandbox's.
        registries: It fetches or pushes images and runs nothing of the build: it gets the machine's settings
            of registries, and `room.result`.

    Raises:
        ToolMissing: A program for it is missing. Not retryable.
    """
    unshare = process.require("unshare", process.base_env())
    if sandbox.isolation is Isolation.CHROOT:
        # So that no process of a build outlives its command. Others than root can't have it.
        return [unshare, *_OWN_NAMESPACES] if os.geteuid() == 0 else []
    folders = [(str(room.work), "build", True), (str(room.settings), "settings", False)]
    handed = [str(room.work / name) for name in WRITTEN]
    if registries:
        folders.append((str(room.result), "result", True))
        handed.append(str(room.result))
    else:
        folders.append((str(room.context), "context", False))
    order = Order(first, ID_COUNT, str(network or sandbox.network), folders, handed, registries)
    command = order.command([unshare, *_OWN_NAMESPACES])
    if first is not None:
        return command
    process.require("newuidmap", process.base_env())
    # A new user namespace clears the order to die with the parent, so it is given again inside.
    setpriv = process.require("setpriv", process.base_env())
    user = [unshare, "--user", "--map-root-user", "--map-auto", "--"]
    return [*user, setpriv, "--pdeathsig", "KILL", "--", *command]


def seen(sandbox: Sandbox, room: Room) -> Room:
    """The folders as a program started with `entry` finds them."""
    if sandbox.isolation is Isolation.CHROOT:
        return room
    return Room(*(INSIDE / name for name in ("build", "settings", "context", "result")))


def check_programs(sandbox: Sandbox) -> None:
    """Check that the programs of a way to build are there, and where the sandbox shows them.

    Raises:
        ToolMissing: One is not installed. Not retryable.
        ConfigurationError: One is at a place that the sandbox does not show. Not retryable.
    """
    if sandbox.isolation is Isolation.CHROOT:
        return
    tools = ["buildah"]
    tools += ["runc"] if sandbox.isolation is Isolation.CONTAINER else []
    tools += ["slirp4netns"] if sandbox.network is Network.PRIVATE else []
    for tool in tools:
        found = process.require(tool, with_sbin())
        if not any(Path(found).resolve().is_relative_to(f"/{shown}") for shown in PROGRAMS):
            raise ConfigurationError(
                f"{tool} at {found}: expected it below /usr, where the sandbox of a build shows programs; "
                f"install the Debian package {tool}, or take {Path(found).parent} off the worker's PATH"
            )


def run_options(sandbox: Sandbox) -> list[str]:
    """Options of `buildah bud` for RUN steps; their network is the one that buildah has.

    Raises:
        ToolMissing: There is no runc. Not retryable.
    """
    if sandbox.isolation is not Isolation.CONTAINER:
        # SYS_CHROOT is what the known way out of a chroot needs.
        return ["--isolation=chroot", "--cap-drop=CAP_SYS_CHROOT"]
    runc = process.require("runc", with_sbin())
    return ["--isolation=oci", f"--runtime={runc}", "--cgroupns=private", "--network=host", *_limits()]


@functools.cache
def _limits() -> tuple[str, ...]:
    """Limits of RUN steps; buildah's own may be above the worker's, which a runtime refuses."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    tasks = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    tasks = 4_096 if tasks == resource.RLIM_INFINITY else min(tasks, 4_096)
    return (f"--ulimit=nofile={files}:{files}", f"--ulimit=nproc={tasks}:{tasks}", "--ulimit=core=0:0")


def with_sbin() -> dict[str, str]:
    """The environment in which programs are looked up that Debian has among the system's."""
    env = process.base_env()
    return env | {"PATH": f"{env['PATH']}:/usr/local/sbin:/usr/sbin:/sbin"}
