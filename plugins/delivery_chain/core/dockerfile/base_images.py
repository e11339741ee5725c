"""Find the images that a Dockerfile needs, and the mounts of its instructions. Pure."""

from __future__ import annotations

import re
from collections import ChainMap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from delivery_chain.core.dockerfile.instructions import expand, instructions, triggered
from delivery_chain.errors import BuildFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from delivery_chain.core.dockerfile.instructions import Instruction

SCRATCH = "scratch"
_AS = re.compile(r"([^\t\v\f\r ]+)(?:[\t\v\f\r ]+(?i:as)[\t\v\f\r ]+([^\t\v\f\r ]+))?")
_OTHER_FLAG = re.compile(r"--(?:network|security)=[a-z]+")
_ASSIGNMENT = re.compile(r"""([A-Za-z_]\w*)=((?:\\.|"(?:\\.|[^"\\])*"|'[^']*'|[^\s\\"'])*)""")


@dataclass(frozen=True, slots=True)
class Need:
    """An image that the builder will request."""

    name: str
    """Name as the builder resolves it: `debian:12`."""
    line: int
    instruction: str
    """The instruction as shown in messages: `FROM debian:12`."""
    platform: str = ""
    """Platform that `FROM --platform` names; empty for the build's own."""
    is_base: bool = False
    """Whether it is from FROM, so that the image's ONBUILD instructions run."""

    def __str__(self) -> str:
        return f"Dockerfile:{self.line}: {self.instruction}"


@dataclass(slots=True)
class Stage:
    """A build stage and its references to others."""

    base: Need
    name: str
    """Name as written, or the stage's number."""
    number: int
    others: list[Need] = field(default_factory=list)
    """References of COPY --from and RUN --mount."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A `--mount` flag of a RUN instruction."""

    line: int
    options: tuple[tuple[str, str | None], ...]
    """Options as written: `type` and `bind`, `ro` and None."""
    text: str
    """The whole flag."""


def platform_args(platform: str) -> dict[str, str]:
    """Build arguments that buildah sets for a platform."""
    system, _, rest = platform.partition("/")
    architecture = rest.partition("/")[0]
    return {"TARGETPLATFORM": platform, "TARGETOS": system, "TARGETARCH": architecture}


def needs(text: str, args: Mapping[str, str], platform: str, *, heredocs: bool = False) -> list[Need]:
    """Return the images that a build of a Dockerfile's last stage requests, without duplicates, in order.

    Args:
        text: The Dockerfile.
        args: Build arguments passed to the build.
        platform: Target platform: `linux/arm64`.
        heredocs: Whether the builder supports them.

    Raises:
        BuildFailed: A stage is named in different letter case, or before it is defined. Not retryable.
    """
    stages = _stages(instructions(text, heredocs=heredocs), platform_args(platform) | dict(args))
    wanted, found = {len(stages) - 1}, {}
    for stage in reversed(stages):
        if stage.number not in wanted:
            continue
        for need in (stage.base, *stage.others):
            earlier = _stage_of(need, stages, stage.number)
            if earlier is not None:
                wanted.add(earlier)
            elif need.name not in {SCRATCH, ""}:
                found[need.line, need.name] = need
    return [found[key] for key in sorted(found)]


def mounts(lines: Iterable[Instruction]) -> list[Mount]:
    """List every mount of RUN instructions, including those in ONBUILD, as written."""
    found = []
    for line in lines:
        inner = triggered(line) if line.name == "onbuild" else line
        if inner.name == "run":
            # If another flag is not a mount after variables are expanded, the builder rejects it.
            flags = [flag for flag in inner.flags if not _OTHER_FLAG.fullmatch(flag)]
            found += [Mount(line.line, _options(flag.partition("=")[2]), flag) for flag in flags]
    return found


def _options(text: str) -> tuple[tuple[str, str | None], ...]:
    pairs = (item.partition("=") for item in text.split(","))
    return tuple((name, value if equals else None) for name, equals, value in pairs)


def _stages(lines: Sequence[Instruction], args: Mapping[str, str]) -> list[Stage]:
    heading: dict[str, str] = {}
    stages: list[Stage] = []
    known: ChainMap[str, str] = ChainMap(heading)
    env: dict[str, str] = {}
    for line in lines:
        if line.name == "from":
            stages.append(_stage(line, len(stages), heading, args))
            known, env = ChainMap({}, dict(args)), {}
        elif line.name == "arg":
            _learn(line, known, args, heading if stages else {})
        elif line.name == "env":
            env |= _environment(line, ChainMap(env, known))
        elif stages:
            stages[-1].others += _others(line, known, ChainMap(env, known))
    return stages


def _stage(line: Instruction, number: int, heading: Mapping[str, str], args: Mapping[str, str]) -> Stage:
    match = _AS.fullmatch(line.rest)
    image, name = (match[1], match[2]) if match else (line.rest, None)
    platform = ""
    for flag in line.flags:
        # Only arguments from outside: buildah leaves BUILDPLATFORM and the values that the Dockerfile sets empty here.
        if flag.startswith("--platform="):
            platform = expand(flag, args).removeprefix("--platform=")
    base = Need(expand(image, heading), line.line, f"FROM {image}", platform, is_base=True)
    return Stage(base, name or str(number), number)


def _others(line: Instruction, args: Mapping[str, str], env: Mapping[str, str]) -> list[Need]:
    """Images that COPY and RUN request. COPY expands build arguments, RUN the environment too."""
    found = []
    for flag in line.flags:
        if line.name in {"copy", "add"} and flag.startswith("--from="):
            found.append(expand(flag.removeprefix("--from="), args))
        elif line.name == "run" and (mount := expand(flag, env)).startswith("--mount="):
            options = _options(mount.removeprefix("--mount="))
            found += [expand(value, args) for name, value in options if name == "from" and value]
    what = f"{line.name.upper()} {' '.join(line.flags)}"
    return [Need(name, line.line, what) for name in found]


def _learn(
    line: Instruction, known: ChainMap[str, str], args: Mapping[str, str], heading: Mapping[str, str]
) -> None:
    """Apply ARG: values from outside override its own default, which overrides that of an ARG before the first FROM."""
    for word in re.findall(r"""(?:\\.|"[^"]*"|'[^']*'|\S)+""", line.rest):
        name, equals, value = word.partition("=")
        if name in args:
            known[name] = args[name]
        elif equals:
            known[name] = expand(value, known)
        elif name in heading:
            known[name] = heading[name]


def _environment(line: Instruction, known: Mapping[str, str]) -> dict[str, str]:
    """Variables that ENV sets, in either of its forms."""
    pairs = _ASSIGNMENT.findall(line.rest)
    if not pairs and len(words := line.rest.split(None, 1)) == len(("name", "value")):
        pairs = [words]
    return {name: expand(value, known) for name, value in pairs}


def _stage_of(need: Need, stages: Sequence[Stage], before: int) -> int | None:
    """Number of the earlier stage that a name refers to; None for an image.

    Raises:
        BuildFailed: It matches a stage except for letter case or order. Not retryable.
    """
    for stage in reversed(stages[:before]):
        if need.name in {stage.name, str(stage.number)}:
            return stage.number
    if need.name.isdigit():
        raise BuildFailed(f"{need}: expected one of the stages before it, 0 to {before - 1}", tool="buildah")
    for stage in stages:
        if need.name.lower() != stage.name.lower() or stage.number == before:
            continue
        if stage.number < before:
            problem = "and buildah distinguishes letter case: write both in the same way"
        elif need.is_base:
            continue
        else:
            problem = "which comes later: a stage has to be defined before it is used"
        raise BuildFailed(
            f"{need}: {need.name!r} looks like the stage {stage.name!r} of line {stage.base.line}, {problem}. "
            "Nothing of that name is pulled",
            tool="buildah",
        )
    return None
