"""Mounts of RUN steps that an old buildah must not be given. Pure.

Flaws of it let a mount leave the build. They are refused by an allow-list, before the build: by their options as
written, since a variable may get another value from the base image.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from delivery_chain.errors import BuildFailed
from delivery_chain.tools.known_flaws import BIND_LEAVES, CACHE_LEAVES, PROPAGATION

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from delivery_chain.core.dockerfile.base_images import Mount
    from delivery_chain.tools.known_flaws import Flaw, Version

_PLAIN = re.compile(r"--mount=[A-Za-z0-9._/,=:@+~%-]+")
_TARGET = {"target", "dst", "destination"}
_BIND = {"type", "from", "source", "src", "ro", "readonly", "z", "Z", "relabel"} | _TARGET
_CACHE = {
    "type",
    "id",
    "ro",
    "readonly",
    "rw",
    "readwrite",
    "sharing",
    "mode",
    "uid",
    "gid",
    "z",
    "Z",
} | _TARGET
_LEADING_OUT = (CACHE_LEAVES, BIND_LEAVES, PROPAGATION)
_INSTALL = "or install a buildah with the fix"


def may_leave(version: Version) -> bool:
    """Whether mounts have to be looked at for this buildah."""
    return any(flaw.affects(version) for flaw in _LEADING_OUT)


def check_mounts(mounts: Sequence[Mount], version: Version, where: str, caches: dict[str, str]) -> None:
    """Refuse mounts that a flaw of this buildah would let out of the build.

    Args:
        mounts: Of the Dockerfile, or of what a base image has in ONBUILD.
        version: Of buildah.
        where: What the mounts are of: `Dockerfile`.
        caches: The cache mounts of this build so far, and where they are; these ones are put in.

    Raises:
        BuildFailed: Names the line, the mount, the flaw and the releases with the fix. Not retryable.
    """
    if not may_leave(version):
        return
    typed = {mount.line for mount in mounts if _kinds(mount)}
    for mount in mounts:
        complaints = [*_complaints(mount, untyped=not _kinds(mount) and mount.line in typed)]
        if cache := _cache(mount):
            complaints += _nested(cache, caches)
            caches.setdefault(cache, f"{where}:{mount.line}")
        for flaw, reason in complaints:
            if flaw.affects(version):
                shown = ".".join(map(str, version))
                raise BuildFailed(
                    f"{where}:{mount.line}: RUN {mount.text[:300]}: refused, as {flaw.cve} of buildah {shown} "
                    f"would let it out of the build (fixed in {flaw.fix}): {reason}, {_INSTALL}",
                    tool="buildah",
                )


def _kinds(mount: Mount) -> set[str | None]:
    return {value for name, value in mount.options if name == "type"}


def _complaints(mount: Mount, *, untyped: bool) -> Iterator[tuple[Flaw, str]]:
    """The flaws that a mount may use, and what to write instead."""
    names = [name for name, _ in mount.options]
    kinds = _kinds(mount) or {"bind"}
    vague = None
    if not _PLAIN.fullmatch(mount.text):
        vague = "expected a mount without variables, quotes and blanks; write its values out"
    # buildah gives a mount without a type that of the mount before.
    elif len(kinds) > 1 or untyped:
        vague = "expected one type for each mount; write them out"
    if vague:
        yield from ((flaw, vague) for flaw in _LEADING_OUT)
    elif kinds == {"cache"}:
        yield from _cache_complaints(mount, names)
    elif kinds == {"bind"}:
        yield from _bind_complaints(names)


def _cache_complaints(mount: Mount, names: Sequence[str]) -> Iterator[tuple[Flaw, str]]:
    for name in sorted(set(names) - _CACHE):
        # The source of a cache from a stage follows links as that of a bind mount does.
        flaw = BIND_LEAVES if name == "from" else CACHE_LEAVES
        yield flaw, f"expected a cache of the build's own without {name!r}; leave it out"
    for name, value in mount.options:
        if name in {"id", *_TARGET} and ".." in (value or "").split("/"):
            yield CACHE_LEAVES, f"expected {name!r} without '..'; write the path out"
    if not _cache(mount):
        yield CACHE_LEAVES, "expected a cache of its own, not the folder of all caches; give it an 'id'"


def _bind_complaints(names: Sequence[str]) -> Iterator[tuple[Flaw, str]]:
    if {"rw", "readwrite"} & set(names):
        yield BIND_LEAVES, "expected a mount that is only read; leave 'rw' out, COPY what has to be written"
    for name in sorted(set(names) - _BIND - {"rw", "readwrite"}):
        yield PROPAGATION, f"expected a bind mount without {name!r}; leave it out"


def _cache(mount: Mount) -> str:
    """Where a cache mount's folder is below that of all caches, without slashes at its ends; else empty."""
    options = dict(mount.options)
    if options.get("type") != "cache":
        return ""
    targets = [value for name, value in mount.options if name in _TARGET and value]
    path = options.get("id") or (targets[-1] if targets else "")
    return "/".join(part for part in path.split("/") if part not in {"", "."})


def _nested(cache: str, earlier: dict[str, str]) -> Iterator[tuple[Flaw, str]]:
    """A cache inside another one would be found through links that a step put into the other."""
    for other, where in earlier.items():
        outer, inner = sorted((cache, other), key=len)
        if inner.startswith(f"{outer}/"):
            yield (
                CACHE_LEAVES,
                f"expected a cache beside that of {where}, not in it; give it an 'id'",
            )
