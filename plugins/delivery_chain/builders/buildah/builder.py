"""Builds an image with buildah and pushes it; the worker keeps nothing of it.

There are three kinds of buildah commands. Base images are pulled first, each by a command of its own that has
just the login for it. The build comes next: it has no login and never pulls. The push is last, when no process
of the build is left. A login is never in a file: the command inherits it as an open descriptor.

Every build has a storage of its own in one folder that is named after the target: builds don't share layers,
locks or leftovers, and a build that is repeated after a kill begins by removing what the killed one left.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from delivery_chain.builders.buildah import errors as buildah_errors
from delivery_chain.builders.buildah import isolation
from delivery_chain.builders.buildah.isolation import Isolation, Network, Sandbox
from delivery_chain.builders.buildah.mount_rules import check_mounts, may_leave
from delivery_chain.builders.buildah.probe_program import exit_program
from delivery_chain.builders.buildah.workspace import BuildRoom, Caller
from delivery_chain.core.dockerfile.base_images import mounts, needs
from delivery_chain.core.dockerfile.instructions import decode, instructions
from delivery_chain.core.dockerfile.pull_policy import ImageName, PullPolicy
from delivery_chain.core.names.platform import Platform
from delivery_chain.core.names.reference import Reference
from delivery_chain.errors import BuildFailed, InvalidReference, ToolError
from delivery_chain.tools import process
from delivery_chain.tools.known_flaws import parse
from delivery_chain.tools.versions import flaw_lines, version_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from delivery_chain.core.dockerfile.base_images import Mount, Need
    from delivery_chain.core.dockerfile.pull_policy import ReadRule
    from delivery_chain.core.names.registry import Registry
    from delivery_chain.tools.known_flaws import Version

__all__ = ["BuildOutput", "BuildRequest", "Isolation", "Network", "Sandbox", "build_and_push"]

PROBE_SECONDS = 60.0
_HEREDOCS = (1, 33, 0)
"""First buildah that knows them."""
_PLATFORM = Platform.LINUX_ARM64 if os.uname().machine == "aarch64" else Platform.LINUX_AMD64
_sandboxes: dict[tuple[Isolation, Network], Sandbox] = {}


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What is built and where it goes."""

    context: Path
    """Folder that COPY and ADD see, from `resolve_context`. It is only read."""
    dockerfile: Path
    platform: Platform
    target: str
    """`host[:port]/name:tag`; also names the build, so that a retry finds its leftovers."""
    args: Mapping[str, str] = field(default_factory=dict)
    """Build arguments. Not for secrets: they are in the image's history."""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BuildOutput:
    """What a build made."""

    digest: str
    """Of the manifest that the registry has now."""
    build_seconds: float
    push_seconds: float
    sandbox: Sandbox
    """The isolation that was used."""
    pull_seconds: float = 0.0
    """What base images took."""


@process.disk_full_said("buildah")
def build_and_push(
    request: BuildRequest,
    *,
    registry: Registry,
    reads: PullPolicy | None = None,
    workdir: Path,
    deadline: float,
    on_line: Callable[[str], None] | None = None,
    isolation: Isolation = Isolation.AUTO,
    network: Network = Network.AUTO,
) -> BuildOutput:
    """Build one platform's image and push it.

    Args:
        request: What to build.
        registry: Where `request.target` is.
        reads: Which base images the build may have; by default any that needs no login.
        workdir: Folder on a disk with room for the image three times; files go below it and are removed.
        deadline: Point on the clock of `time.monotonic()`, seconds.
        on_line: Called with each line of the build, credentials masked.
        isolation: What stands between RUN steps and this machine.
        network: Where RUN steps may connect to.

    Returns:
        The pushed manifest's digest, and how long it took.

    Raises:
        BuildFailed: The Dockerfile or its context is at fault, or asks for what it may not have. Not retryable.
        RegistryError: A base image could not be pulled, or the image not pushed; its kind says whether a
            retry helps.
        DiskFull: No room. Retryable.
        ToolMissing: buildah, or a program for the isolation, is missing. Not retryable.
        ConfigurationError: The isolation that was asked for can't be had here. Not retryable.
        ProbeFailed: What isolation can be had could not be found out. Retryable.
        ToolTimeout: The deadline passed. Not retryable.
    """
    reference = Reference.parse(request.target)
    if reference.host != registry.host or reference.tag is None or reference.digest is not None:
        raise InvalidReference(f"build target {request.target!r}: expected {registry.host}/name:tag")
    policy = reads or PullPolicy()
    workdir.mkdir(parents=True, exist_ok=True)
    sandbox = _sandbox(isolation, network, workdir)
    log = on_line or _nowhere
    log(f"build of {request.target} for {request.platform}: {sandbox}")
    for tool in ("buildah", "runc") if sandbox.isolation is Isolation.CONTAINER else ("buildah",):
        for line in flaw_lines(tool):
            log(line)
    version = parse(version_text("buildah"))
    dockerfile = request.dockerfile.read_bytes()
    pulls = _pulls(request, dockerfile, policy, version)
    caches: dict[str, str] = {}
    check_mounts(_mounts(dockerfile, version), version, "Dockerfile", caches)
    registries = (registry, *(rule.registry for rule in policy.rules))
    caller = Caller(deadline, on_line, [one.password for one in registries if one.password])
    with BuildRoom(request.target, request.context, workdir, sandbox, caller) as room:
        room.write_dockerfile(dockerfile)
        began = time.monotonic()
        for pull in pulls:
            log(f"pulling {pull.image} for {pull.platform}: read by {pull.rule.rule}")
            room.pull(pull.image, pull.rule, pull.platform, pull.need)
            if pull.need.is_base and may_leave(version):
                triggered = _mounts(room.triggers(pull.image), version)
                check_mounts(triggered, version, f"ONBUILD of {pull.image}", caches)
        pulled = time.monotonic()
        _build(room, request, decode(dockerfile))
        built = time.monotonic()
        digest = room.push(registry, request.target)
        return BuildOutput(digest, built - pulled, time.monotonic() - built, sandbox, pulled - began)


def _nowhere(_: str) -> None:
    """Drop a line that nobody asked for."""


@dataclass(frozen=True, slots=True)
class _Pull:
    """One base image, allowed by a rule."""

    need: Need
    image: ImageName
    rule: ReadRule
    platform: str


def _mounts(dockerfile: bytes, version: Version) -> list[Mount]:
    """Every mount there may be: whether a `<<` begins a heredoc, only the builder's shell rules say for certain."""
    text = decode(dockerfile)
    readings = [False, True] if version >= _HEREDOCS else [False]
    found = [one for heredocs in readings for one in mounts(instructions(text, heredocs=heredocs))]
    return list(dict.fromkeys(found))


def _pulls(request: BuildRequest, dockerfile: bytes, policy: PullPolicy, version: Version) -> list[_Pull]:
    """What has to be pulled, each image once, checked before anything is sent.

    Raises:
        BuildFailed: A name is none, is not allowed, or is wanted for two platforms. Not retryable.
    """
    found: dict[str, _Pull] = {}
    text = decode(dockerfile)
    for need in needs(text, request.args, str(request.platform), heredocs=version >= _HEREDOCS):
        try:
            image = ImageName.parse(need.name).exact
        except InvalidReference as error:
            raise BuildFailed(f"{need}: {error}; correct the Dockerfile", tool="buildah") from error
        pull = _Pull(need, image, policy.rule_for(image, str(need)), need.platform or str(request.platform))
        earlier = found.setdefault(str(image), pull)
        if earlier.platform != pull.platform:
            raise BuildFailed(
                f"{need}: {image} is wanted for {pull.platform} here and for {earlier.platform} in line "
                f"{earlier.need.line}; name one of them by its digest",
                tool="buildah",
            )
        if need.is_base:
            # Wherever else it is named, its ONBUILD instructions run.
            found[str(image)] = pull
    return list(found.values())


def _build(room: BuildRoom, request: BuildRequest, dockerfile: str) -> None:
    options = [f"--platform={request.platform}"]
    options += [f"--build-arg={name}={value}" for name, value in request.args.items()]
    # Not by arguments in LABEL: with cached layers those keep their first value.
    options += [f"--label={name}={value}" for name, value in request.labels.items()]
    options += [f"--annotation={name}={value}" for name, value in request.annotations.items()]
    try:
        room.build(options)
    except ToolError as error:
        # The process's own error has nothing that this one lacks, and would stand in the log beside it.
        raise buildah_errors.of_build(error, request.target, dockerfile) from None


def way_to_build(kind: Isolation, network: Network, workdir: Path) -> Sandbox:
    """The way in which builds run here: found out by a trial build, once per process.

    Args:
        kind: What is asked for.
        network: What is asked for.
        workdir: As of `build_and_push`.

    Raises:
        ConfigurationError: None works; the message says why for each. Not retryable.
        ToolMissing, ProbeFailed: As `isolation.choose`.
    """
    return _sandbox(kind, network, workdir)


def _sandbox(kind: Isolation, network: Network, workdir: Path) -> Sandbox:
    """What works here, found out once per process."""
    if (kind, network) not in _sandboxes:
        _sandboxes[kind, network] = isolation.choose(kind, network, lambda sandbox: _probe(sandbox, workdir))
    return _sandboxes[kind, network]


@process.disk_full_said("buildah")
def _probe(sandbox: Sandbox, workdir: Path) -> None:
    """Build something small, with a RUN step where this machine has a program for it."""
    isolation.check_programs(sandbox)
    with tempfile.TemporaryDirectory(dir=workdir, prefix="probe-") as folder:
        context = Path(folder) / "context"
        context.mkdir()
        context.chmod(0o755)
        lines = ["FROM scratch", "COPY note /"]
        (context / "note").write_text("x")
        program = exit_program(os.uname().machine)
        if program is not None:
            (context / "program").write_bytes(program)
            lines += ["COPY program /program", 'RUN ["/program"]']
        for file, mode in (("note", 0o644), ("program", 0o755)):
            with contextlib.suppress(FileNotFoundError):
                (context / file).chmod(mode)
        caller = Caller(time.monotonic() + PROBE_SECONDS)
        with BuildRoom("probe", context, Path(folder), sandbox, caller) as room:
            room.write_dockerfile("\n".join(lines).encode() + b"\n")
            room.build([f"--platform={_PLATFORM}"])
