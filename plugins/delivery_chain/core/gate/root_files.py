"""Find out whether an image that names no operating system contains more than static programs.

Pure: takes the entries of the layers from the top one down, and applies whiteouts as a union mount does.

Source: OCI image spec, layer "Whiteouts"; System V ABI, "Program Header".
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from delivery_chain.core.gate.coverage import Coverage, Gap

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = 4096
"""Number of bytes of a file that are inspected: they contain an ELF file's program headers."""
SHOWN = 120
"""Maximum length, in characters, of a path that a report shows."""
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_NAMES_A_SYSTEM = re.compile(
    r"(?:usr/lib|etc)/(?:os-release|initrd-release|[a-z0-9]+-release|lsb-release|debian_version)"
)
_PACKAGE_DATABASES = re.compile(
    r"(?:var/lib/(?:dpkg|rpm|pacman|pkg|opkg|swupd)|usr/lib/(?:opkg|sysimage)|usr/share/rpm|lib/apk/db"
    r"|usr/lib/apk/db|var/db/(?:pkg|xbps|paludis|kiss)|nix/var/nix/db|gnu/store|var/guix)/."
)
_LIBRARY = re.compile(r"(?:.*/)?[^/]+\.so(?:\.[0-9][0-9A-Za-z._-]*)?")
_INTERPRETER = re.compile(
    r"(?:.*/)?s?bin/(?:sh|ash|bash|dash|ksh|zsh|busybox|perl[0-9.]*|python[0-9.]*|ruby[0-9.]*|node|php[0-9.]*|lua[0-9.]*"
    r"|java)"
)
_ELF = b"\x7fELF"
_PT_INTERP = 3
_LITTLE = 1
_64 = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a layer."""

    path: str
    """Path as in the tar."""
    is_file: bool
    """A regular file, or a hard link to one."""
    is_folder: bool = False
    head: bytes = b""
    """The first bytes of a regular file."""


@dataclass(slots=True)
class RootFiles:
    """The files of an image, read layer by layer from the top one down."""

    programs: int = 0
    """Static programs found."""
    found: dict[Gap, str] = field(default_factory=dict)
    """For each gap, a path that shows it."""
    _hidden: set[str] = field(default_factory=set)
    """Paths that upper layers removed or replaced, with everything below them."""
    _opaque: set[str] = field(default_factory=set)
    """Folders that upper layers emptied."""
    _hides: set[str] = field(default_factory=set)
    _empties: set[str] = field(default_factory=set)

    def see(self, entry: Entry) -> None:
        """Process one entry of the current layer."""
        path = _plain(entry.path)
        folder, _, name = path.rpartition("/")
        if not path or name == _WHITEOUT:
            # The root itself, or a whiteout without a name: runtimes ignore both, whatever their entry type.
            return
        if name == _OPAQUE:
            self._empties.add(folder)
        elif name.startswith(_WHITEOUT):
            self._hides.add(f"{folder}/{name[len(_WHITEOUT) :]}".lstrip("/"))
        elif not self._is_hidden(path):
            if not entry.is_folder:
                self._hides.add(path)
            if entry.is_file:
                self._inspect(path, entry.head)

    def end_layer(self) -> None:
        """End the current layer: what it hides is hidden in the layers below."""
        self._hidden |= self._hides
        self._opaque |= self._empties
        self._hides, self._empties = set(), set()

    def coverage(self, scanned: Coverage) -> Coverage:
        """Return what the engine covered, plus what else the image contains."""
        for gap in (Gap.UNSUPPORTED_OS, Gap.UNIDENTIFIED):
            if gap in self.found:
                root = f"no operating system that the engine knows, but {_shown(self.found[gap])}"
                return scanned.model_copy(update={"root": root, "gaps": (*scanned.gaps, gap)})
        programs = {0: "no program", 1: "1 static program"}.get(
            self.programs, f"{self.programs} static programs"
        )
        return scanned.model_copy(update={"root": f"no package database, {programs}"})

    def _is_hidden(self, path: str) -> bool:
        return any(
            above in self._hidden or (above != path and above in self._opaque) for above in _upwards(path)
        )

    def _inspect(self, path: str, head: bytes) -> None:
        program = head.startswith(_ELF)
        static = program and not needs_loader(head)
        if _NAMES_A_SYSTEM.fullmatch(path) or _PACKAGE_DATABASES.match(path):
            self.found.setdefault(Gap.UNSUPPORTED_OS, path)
        elif (
            _LIBRARY.fullmatch(path)
            or (program and not static)
            or (_INTERPRETER.fullmatch(path) and not static)
        ):
            self.found.setdefault(Gap.UNIDENTIFIED, path)
        elif static:
            self.programs += 1


def needs_loader(head: bytes) -> bool:
    """Whether an ELF file names a loader, and so is not static; True if its first bytes do not tell."""
    try:
        order = "<" if head[5] == _LITTLE else ">"
        if head[4] == _64:
            (start,), (size, count) = (
                struct.unpack_from(f"{order}Q", head, 32),
                struct.unpack_from(f"{order}HH", head, 54),
            )
        else:
            (start,), (size, count) = (
                struct.unpack_from(f"{order}I", head, 28),
                struct.unpack_from(f"{order}HH", head, 42),
            )
        kinds = [struct.unpack_from(f"{order}I", head, start + size * number)[0] for number in range(count)]
    except (struct.error, IndexError):
        return True
    return _PT_INTERP in kinds


def _shown(path: str) -> str:
    """Return a path from an image as one printable line."""
    return "".join(letter if letter.isprintable() else "?" for letter in path[:SHOWN])


def _plain(path: str) -> str:
    return "/".join(part for part in path.split("/") if part not in ("", "."))


def _upwards(path: str) -> Iterator[str]:
    """Yield the path, each folder above it, and the root as an empty string."""
    while path:
        yield path
        path = path.rpartition("/")[0]
    yield ""
