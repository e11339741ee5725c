"""Refuses mounts of RUN steps that are unsafe in an old buildah. Pure.

Vulnerabilities of old versions let a mount escape the build. Mounts are checked against an allowlist before the build,
with their options as written, because the base image may change the value of a variable.
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
    """Whether this version of buildah requires mounts to be checked."""
    return any(flaw.affects(version) for flaw in _LEADING_OUT)


def check_mounts(mounts: Sequence[Mount], version: Version, where: str, caches: dict[str, str]) -> None:
    """Refuse mounts that could escape the build through a vulnerability of this buildah.

    Args:
        mounts: From the Dockerfile, or from a base image's ONBUILD.
        version: Version of buildah.
        where: Origin of the mounts: `Dockerfile`.
        caches: The build's cache mounts so far, and where each is written; extended with the cache mounts in `mounts`.

    Raises:
        BuildFailed: A mount is refused; the message names the line, the mount, the vulnerability and the releases with
            the fix. Not retryable.
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
                    f"{where}:{mount.line}: RUN {mount.text[:300]}: refused, because {flaw.cve} of buildah {shown} "
                    f"would let it out of the build (fixed in {flaw.fix}): {reason}, {_INSTALL}",
                    tool="buildah",
                )


def _kinds(mount: Mount) -> set[str | None]:
    return {value for name, value in mount.options if name == "type"}


def _complaints(mount: Mount, *, untyped: bool) -> Iterator[tuple[Flaw, str]]:
    """Yield the vulnerabilities that a mount may exploit, and what to write instead."""
    names = [name for name, _ in mount.options]
    kinds = _kinds(mount) or {"bind"}
    vague = None
    if not _PLAIN.fullmatch(mount.text):
        vague = "expected a mount without variables, quotes and blanks; write its values out"
    # buildah gives a mount without a type the type of the previous mount.
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
        # The source of a cache from a stage follows symlinks, as a bind mount's does.
        flaw = BIND_LEAVES if name == "from" else CACHE_LEAVES
        yield flaw, f"expected a cache of the build itself, without {name!r}; leave it out"
    for name, value in mount.options:
        if name in {"id", *_TARGET} and ".." in (value or "").split("/"):
            yield CACHE_LEAVES, f"expected {name!r} without '..'; write the path out"
    if not _cache(mount):
        yield CACHE_LEAVES, "expected a single cache, not the folder of all caches; give it an 'id'"


def _bind_complaints(names: Sequence[str]) -> Iterator[tuple[Flaw, str]]:
    if {"rw", "readwrite"} & set(names):
        yield BIND_LEAVES, "expected a read-only mount; leave out 'rw', and COPY what has to be written"
    for name in sorted(set(names) - _BIND - {"rw", "readwrite"}):
        yield PROPAGATION, f"expected a bind mount without {name!r}; leave it out"


def _cache(mount: Mount) -> str:
    """Path of a cache mount's folder below the folder of all caches, without outer slashes; empty for other mounts."""
    options = dict(mount.options)
    if options.get("type") != "cache":
        return ""
    targets = [value for name, value in mount.options if name in _TARGET and value]
    path = options.get("id") or (targets[-1] if targets else "")
    return "/".join(part for part in path.split("/") if part not in {"", "."})


def _nested(cache: str, earlier: dict[str, str]) -> Iterator[tuple[Flaw, str]]:
    """Yield nested caches: a step could plant symlinks in the outer cache that redirect the inner one."""
    for other, where in earlier.items():
        outer, inner = sorted((cache, other), key=len)
        if inner.startswith(f"{outer}/"):
            yield (
                CACHE_LEAVES,
                f"expected a cache beside that of {where}, not inside it; give it an 'id'",
            )
