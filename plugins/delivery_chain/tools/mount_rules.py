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
    from collections.abc import Sequence

    from delivery_chain.core.base_images import Mount
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
_INSTALL = "or install a buildah with the fix"


def may_leave(version: Version) -> bool:
    """Whether mounts have to be looked at for this buildah."""
    return any(flaw.affects(version) for flaw in (CACHE_LEAVES, BIND_LEAVES, PROPAGATION))


def check_mounts(mounts: Sequence[Mount], version: Version, where: str) -> None:
    """Refuse mounts that a flaw of this buildah would let out of the build.

    Args:
        mounts: Of the Dockerfile, or of what a base image has in ONBUILD.
        version: Of buildah.
        where: What the mounts are of: `Dockerfile`.

    Raises:
        BuildFailed: Names the line, the mount, the flaw and the releases with the fix. Not retryable.
    """
    if not may_leave(version):
        return
    caches: dict[str, Mount] = {}
    typed = {mount.line for mount in mounts if _kinds(mount)}
    for mount in mounts:
        found = _complaint(mount, untyped=not _kinds(mount) and mount.line in typed)
        if found is None and (cache := _cache(mount)):
            found = _nested(cache, caches)
            caches[cache] = mount
        if found:
            flaw, reason = found
            shown = ".".join(map(str, version))
            raise BuildFailed(
                f"{where} line {mount.line}, RUN {mount.text[:300]}: refused, as {flaw.cve} of buildah {shown} would "
                f"let it out of the build (fixed in {flaw.fix}): {reason}, {_INSTALL}",
                tool="buildah",
            )


def _kinds(mount: Mount) -> set[str | None]:
    return {value for name, value in mount.options if name == "type"}


def _complaint(mount: Mount, *, untyped: bool) -> tuple[Flaw, str] | None:
    """The flaw that a mount may use, and what to write instead."""
    names = [name for name, _ in mount.options]
    kinds = _kinds(mount) or {"bind"}
    if not _PLAIN.fullmatch(mount.text):
        return CACHE_LEAVES, "expected a mount without variables, quotes and blanks; write its values out"
    # buildah gives a mount without a type that of the mount before.
    if len(kinds) > 1 or untyped:
        return CACHE_LEAVES, "expected one type for each mount; write them out"
    if kinds == {"cache"}:
        return _cache_complaint(mount, names)
    if kinds == {"bind"}:
        return _bind_complaint(names)
    return None


def _cache_complaint(mount: Mount, names: Sequence[str]) -> tuple[Flaw, str] | None:
    other = sorted(set(names) - _CACHE)
    if other:
        return CACHE_LEAVES, f"expected a cache of the build's own without {other[0]!r}; leave it out"
    for name, value in mount.options:
        if name in {"id", *_TARGET} and ".." in (value or "").split("/"):
            return CACHE_LEAVES, f"expected {name!r} without '..'; write the path out"
    if not _cache(mount):
        return CACHE_LEAVES, "expected a cache of its own, not the folder of all caches; give it an 'id'"
    return None


def _bind_complaint(names: Sequence[str]) -> tuple[Flaw, str] | None:
    if {"rw", "readwrite"} & set(names):
        return BIND_LEAVES, "expected a mount that is only read; leave 'rw' out, COPY what has to be written"
    other = sorted(set(names) - _BIND)
    if other:
        return PROPAGATION, f"expected a bind mount without {other[0]!r}; leave it out"
    return None


def _cache(mount: Mount) -> str:
    """Where a cache mount's folder is below that of all caches, without slashes at its ends; else empty."""
    options = dict(mount.options)
    if options.get("type") != "cache":
        return ""
    targets = [value for name, value in mount.options if name in _TARGET and value]
    path = options.get("id") or (targets[-1] if targets else "")
    return "/".join(part for part in path.split("/") if part not in {"", "."})


def _nested(cache: str, earlier: dict[str, Mount]) -> tuple[Flaw, str] | None:
    """A cache inside another one would be found through links that a step put into the other."""
    for other, mount in earlier.items():
        outer, inner = sorted((cache, other), key=len)
        if inner.startswith(f"{outer}/"):
            return (
                CACHE_LEAVES,
                f"expected a cache beside that of line {mount.line}, not in it; give it an 'id'",
            )
    return None
