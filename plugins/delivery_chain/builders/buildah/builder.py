"""Builds an image with buildah and pushes it; the worker keeps nothing.

Three kinds of buildah commands run. First, base images are pulled, each by its own command with only the login for
that image. Next comes the build, which has no login and never pulls. The push comes last, when all processes of the
build have ended. A login is never in a file: the command inherits it as an open file descriptor.

Every build has its own storage in one folder named after the target: builds don't share layers, locks or leftovers,
and the retry of a killed build begins by removing that build's leftovers.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from delivery_chain.builders.buildah import errors as buildah_errors
from delivery_chain.builders.buildah import isolation
from delivery_chain.builders.buildah.isolation import Isolation, Network, Sandbox
from delivery_chain.builders.buildah.mount_rules import check_mounts, may_leave
from delivery_chain.builders.buildah.probe_program import exit_program
from delivery_chain.builders.buildah.workspace import BuildRoom, Caller
from delivery_chain.builders.interface import BuildOutput
from delivery_chain.core.dockerfile.base_image_policy import ImageName
from delivery_chain.core.dockerfile.base_images import mounts, needs
from delivery_chain.core.dockerfile.instructions import decode, instructions
from delivery_chain.core.names.platform import Platform
from delivery_chain.core.names.reference import Reference
from delivery_chain.errors import BuildFailed, ConfigurationError, InvalidReference, ToolError
from delivery_chain.tools import process
from delivery_chain.tools.known_flaws import parse
from delivery_chain.tools.versions import flaw_lines, version_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from delivery_chain.builders.interface import BuildWork
    from delivery_chain.core.dockerfile.base_image_policy import ReadRule
    from delivery_chain.core.dockerfile.base_images import Mount, Need
    from delivery_chain.tools.known_flaws import Version

PROBE_SECONDS = 60.0
_HEREDOCS = (1, 33, 0)
"""The first version of buildah that supports them."""
_PLATFORM = Platform.LINUX_ARM64 if os.uname().machine == "aarch64" else Platform.LINUX_AMD64
_sandboxes: dict[tuple[Isolation, Network], Sandbox] = {}


class BuildahBuilder:
    """buildah as a `Builder`; options `isolation` and `network`, see docs/build-isolation.md."""

    @process.disk_full_said("buildah")
    def build(self, work: BuildWork, *, seconds: float, log: Callable[[str], None]) -> BuildOutput:
        """Build one platform's image and push it, see `Builder.build`."""
        deadline = time.monotonic() + seconds
        reference = Reference.parse(work.target)
        if reference.host != work.registry.host or reference.tag is None or reference.digest is not None:
            raise InvalidReference(f"build target {work.target!r}: expected {work.registry.host}/name:tag")
        work.folder.mkdir(parents=True, exist_ok=True)
        sandbox = _sandbox(*_ways(work.options), work.folder)
        log(f"build of {work.target} for {work.platform}: {sandbox}")
        for tool in ("buildah", "runc") if sandbox.isolation is Isolation.CONTAINER else ("buildah",):
            for line in flaw_lines(tool):
                log(line)
        return _build_and_push(work, sandbox, deadline, log)

    def probe(self, options: Mapping[str, str], folder: Path) -> str:
        """Describe the isolation that builds get on this machine; probed once per process, see `Builder.probe`."""
        return str(_sandbox(*_ways(options), folder))


def _ways(options: Mapping[str, str]) -> tuple[Isolation, Network]:
    """Return the isolation and network that the options ask for.

    Raises:
        ConfigurationError: An option is unknown, or its value is not allowed. Not retryable.
    """
    if unknown := sorted(options.keys() - {"isolation", "network"}):
        raise ConfigurationError(
            f"builder buildah: expected the options isolation and network, found {unknown[0]!r}"
        )
    try:
        return Isolation(options.get("isolation", "auto")), Network(options.get("network", "auto"))
    except ValueError as error:
        raise ConfigurationError(f"builder buildah: {error}") from error


def _build_and_push(
    work: BuildWork, sandbox: Sandbox, deadline: float, log: Callable[[str], None]
) -> BuildOutput:
    version = parse(version_text("buildah"))
    dockerfile = work.dockerfile.read_bytes()
    pulls = _pulls(work, dockerfile, version)
    caches: dict[str, str] = {}
    check_mounts(_mounts(dockerfile, version), version, "Dockerfile", caches)
    registries = (work.registry, *(rule.registry for rule in work.reads.rules))
    caller = Caller(deadline, log, [one.password for one in registries if one.password])
    with BuildRoom(work.target, work.context, work.folder, sandbox, caller) as room:
        room.write_dockerfile(dockerfile)
        began = time.monotonic()
        for pull in pulls:
            log(f"pulling {pull.image} for {pull.platform}: read by {pull.rule.rule}")
            room.pull(pull.image, pull.rule, pull.platform, pull.need)
            if pull.need.is_base and may_leave(version):
                triggered = _mounts(room.triggers(pull.image), version)
                check_mounts(triggered, version, f"ONBUILD of {pull.image}", caches)
        pulled = time.monotonic()
        _build(room, work, decode(dockerfile))
        built = time.monotonic()
        digest = room.push(work.registry, work.target)
        return BuildOutput(digest, built - pulled, time.monotonic() - built, str(sandbox), pulled - began)


@dataclass(frozen=True, slots=True)
class _Pull:
    """One base image, allowed by a rule."""

    need: Need
    image: ImageName
    rule: ReadRule
    platform: str


def _mounts(dockerfile: bytes, version: Version) -> list[Mount]:
    """Every possible mount, with and without heredocs: only the shell rules of the builder tell if `<<` begins one."""
    text = decode(dockerfile)
    readings = [False, True] if version >= _HEREDOCS else [False]
    found = [one for heredocs in readings for one in mounts(instructions(text, heredocs=heredocs))]
    return list(dict.fromkeys(found))


def _pulls(work: BuildWork, dockerfile: bytes, version: Version) -> list[_Pull]:
    """List the images to pull, each once, checked before anything is sent.

    Raises:
        BuildFailed: A name is invalid, is not allowed, or is needed for two platforms. Not retryable.
    """
    found: dict[str, _Pull] = {}
    text = decode(dockerfile)
    for need in needs(text, work.args, str(work.platform), heredocs=version >= _HEREDOCS):
        try:
            image = ImageName.parse(need.name).exact
        except InvalidReference as error:
            raise BuildFailed(f"{need}: {error}; correct the Dockerfile", tool="buildah") from error
        pull = _Pull(need, image, work.reads.rule_for(image, str(need)), need.platform or str(work.platform))
        earlier = found.setdefault(str(image), pull)
        if earlier.platform != pull.platform:
            raise BuildFailed(
                f"{need}: {image} is needed for {pull.platform} here and for {earlier.platform} in line "
                f"{earlier.need.line}; name one of them by its digest",
                tool="buildah",
            )
        if need.is_base:
            # If any FROM names the image, its ONBUILD instructions run: keep this use of it.
            found[str(image)] = pull
    return list(found.values())


def _build(room: BuildRoom, work: BuildWork, dockerfile: str) -> None:
    options = [f"--platform={work.platform}"]
    options += [f"--build-arg={name}={value}" for name, value in work.args.items()]
    # Not through build arguments in LABEL: cached layers keep their first value.
    options += [f"--label={name}={value}" for name, value in work.labels.items()]
    options += [f"--annotation={name}={value}" for name, value in work.annotations.items()]
    try:
        room.build(options)
    except ToolError as error:
        # The process's own error would only repeat this one in the log.
        raise buildah_errors.of_build(error, work.target, dockerfile) from None


def _sandbox(kind: Isolation, network: Network, workdir: Path) -> Sandbox:
    """The sandbox that works on this machine, probed once per process."""
    if (kind, network) not in _sandboxes:
        _sandboxes[kind, network] = isolation.choose(kind, network, lambda sandbox: _probe(sandbox, workdir))
    return _sandboxes[kind, network]


@process.disk_full_said("buildah")
def _probe(sandbox: Sandbox, workdir: Path) -> None:
    """Run a small build, with a RUN step if a program for this machine is available."""
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
