"""Chooses how a build is isolated from its worker; `docs/build-isolation.md` explains what each kind prevents.

That the programs are installed does not prove that a kind works, so `choose` runs a trial build.
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
"""Number of user ids in a build; as many as images may use."""
_FIRST_ID, _ID_RANGES = 1_879_048_192, 4_000
"""Ids that no system allocates (systemd, "Users, Groups, UIDs and GIDs"), in ranges of `ID_COUNT` + 1:
the first id of a range belongs to the processes around the build."""
_OWN_NAMESPACES = ("--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc", "--")


class Isolation(StrEnum):
    """The barrier between a RUN step and the worker."""

    AUTO = "auto"
    """The first of CONTAINER and NAMESPACES that works here; a build is refused if neither does."""
    CONTAINER = "container"
    """An OCI container run by runc in a user namespace: its own processes, files, network and devices, and seccomp."""
    NAMESPACES = "namespaces"
    """chroot in its own user, process, mount, IPC and host name namespaces."""
    CHROOT = "chroot"
    """chroot only, as the worker's own user. For Dockerfiles that are trusted as much as the worker itself."""


class Network(StrEnum):
    """The network that RUN steps may reach."""

    AUTO = "auto"
    """PRIVATE if it works, otherwise HOST."""
    PRIVATE = "private"
    """Outbound through slirp4netns, except to the worker's loopback and its own addresses."""
    HOST = "host"
    """Everything that the worker can reach, including its loopback."""
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A combination of isolation, network and storage driver to build with."""

    isolation: Isolation
    network: Network
    driver: str
    """Storage driver: `overlay`, or `vfs`, which copies every layer."""

    def __str__(self) -> str:
        return f"isolation {self.isolation}, network {self.network}, storage {self.driver}"


TRIES = 3
"""Attempts for a sandbox whose trial build fails for a transient reason."""
_REFUSED = re.compile(
    r"operation not permitted|permission denied|not supported|does not support|invalid argument"
    r"|function not implemented|no such device|read-only file system|cgroup|sub[ug]id|new[ug]idmap"
    r"|unshare\b.*(?:no space left on device|too many users)|/dev/net/tun\b.*no such file",
    re.IGNORECASE,
)
"""Errors of the kernel, a runtime or a missing id range on machines that do not support a kind of isolation.

`unshare` reports no space if the number of namespaces is limited to zero (user.max_user_namespaces).
"""


def choose(isolation: Isolation, network: Network, probe: Callable[[Sandbox], None]) -> Sandbox:
    """Return the strongest sandbox that fits the request and works here.

    A sandbox is rejected for two reasons only: one of its programs is not installed, or this machine refuses it. A
    probe that fails for another reason, such as a timeout or a full disk, proves nothing: it is retried, and then
    becomes an error.

    Args:
        isolation: The requested isolation.
        network: The requested network.
        probe: Runs a small build; raises ToolError if the sandbox does not work.

    Raises:
        ConfigurationError: None works, and the message says why for each; or a program is outside the folders that
            sandboxes can see. Not retryable.
        ToolMissing: buildah is not installed. Not retryable.
        ProbeFailed: A sandbox could not be probed. Retryable.
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
    """Return the reason why a sandbox does not work on this machine, or None if it does.

    Raises:
        ProbeFailed: The probe was inconclusive. Retryable.
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
        "other failures; a weaker isolation is not chosen for those. A retry may help. The last one: "
        f"{last}",
        tool="buildah",
    ) from last


def candidates(isolation: Isolation, network: Network) -> list[Sandbox]:
    """Return the sandboxes that fit the request, strongest first."""
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
    """First id outside the namespaces for a build's users, distinct for most concurrent builds; None without root.

    Args:
        key: Hex digits that identify the build.
    """
    if os.geteuid() != 0:
        return None
    return _FIRST_ID + int(key[:8], 16) % _ID_RANGES * (ID_COUNT + 1)


@dataclass(frozen=True, slots=True)
class Room:
    """The folders of one build on this machine."""

    work: Path
    """buildah's writable folder, with `storage`, `run` and `tmp`."""
    settings: Path
    """buildah's settings, read-only for RUN steps and for buildah itself."""
    context: Path
    """The folder that COPY and ADD see; read-only."""
    result: Path
    """The folder to which a push writes the digest."""


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
    """Return the arguments to put before a program to run it in its namespaces.

    Args:
        sandbox: The sandbox.
        room: The build's folders.
        first: From `first_id`.
        network: Overrides the sandbox's network.
        registries: Whether the program only fetches or pushes images, and runs none of the build's own programs. It
            then also sees the machine's registry settings, and `room.result`.

    Raises:
        ToolMissing: A required program is missing. Not retryable.
    """
    unshare = process.require("unshare", process.base_env())
    if sandbox.isolation is Isolation.CHROOT:
        # No process of a build outlives its command. Only root can set this.
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
    # A new user namespace clears the parent-death signal, so it is set again inside.
    setpriv = process.require("setpriv", process.base_env())
    user = [unshare, "--user", "--map-root-user", "--map-auto", "--"]
    return [*user, setpriv, "--pdeathsig", "KILL", "--", *command]


def seen(sandbox: Sandbox, room: Room) -> Room:
    """Return the folders as seen by a program started with `entry`."""
    if sandbox.isolation is Isolation.CHROOT:
        return room
    return Room(*(INSIDE / name for name in ("build", "settings", "context", "result")))


def check_programs(sandbox: Sandbox) -> None:
    """Check that the programs of a sandbox are installed, and are visible inside it.

    Raises:
        ToolMissing: One is not installed. Not retryable.
        ConfigurationError: One is in a folder that the sandbox does not show. Not retryable.
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
    """Return the options of `buildah bud` for RUN steps, which share buildah's own network.

    Raises:
        ToolMissing: runc is not installed. Not retryable.
    """
    if sandbox.isolation is not Isolation.CONTAINER:
        # The known escape from a chroot needs SYS_CHROOT.
        return ["--isolation=chroot", "--cap-drop=CAP_SYS_CHROOT"]
    runc = process.require("runc", with_sbin())
    return ["--isolation=oci", f"--runtime={runc}", "--cgroupns=private", "--network=host", *_limits()]


@functools.cache
def _limits() -> tuple[str, ...]:
    """Limits of RUN steps: buildah's defaults may exceed the worker's, and a runtime would refuse them."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    tasks = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    tasks = 4_096 if tasks == resource.RLIM_INFINITY else min(tasks, 4_096)
    return (f"--ulimit=nofile={files}:{files}", f"--ulimit=nproc={tasks}:{tasks}", "--ulimit=core=0:0")


def with_sbin() -> dict[str, str]:
    """The environment with the sbin folders on PATH, where Debian installs some of the programs."""
    env = process.base_env()
    return env | {"PATH": f"{env['PATH']}:/usr/local/sbin:/usr/sbin:/sbin"}
