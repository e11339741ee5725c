"""The contents of an image that names no operating system: only static programs, or more."""

from __future__ import annotations

import struct

import pytest

from delivery_chain.core.gate.coverage import Coverage, Gap, LanguagePackages
from delivery_chain.core.gate.root_files import Entry, RootFiles, needs_loader

INTERP, LOAD = 3, 1


def elf(*kinds: int, bits: int = 64, order: str = "<") -> bytes:
    """The head of an ELF program with these program headers."""
    wide = bits == 64
    header = bytearray(b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2]) + bytes(58))
    size = 56 if wide else 32
    struct.pack_into(f"{order}{'Q' if wide else 'I'}", header, 32 if wide else 28, 64)
    struct.pack_into(f"{order}HH", header, 54 if wide else 42, size, len(kinds))
    return bytes(header) + b"".join(struct.pack(f"{order}I", kind) + bytes(size - 4) for kind in kinds)


STATIC, DYNAMIC = elf(LOAD, LOAD), elf(6, INTERP, LOAD)
Layer = dict[str, bytes | None]
"""Contents by path; None is a folder."""


def seen(*layers: Layer, scanned: Coverage = Coverage()) -> Coverage:  # noqa: B008 - frozen
    """The coverage of layers, the base first."""
    files = RootFiles()
    for layer in reversed(layers):
        for path, head in layer.items():
            files.see(Entry(path, head is not None, head is None, head or b""))
        files.end_layer()
    return files.coverage(scanned)


@pytest.mark.parametrize(
    ("files", "root"),
    [
        ({}, "no package database, no program"),
        ({"hello.txt": b"hello"}, "no package database, no program"),
        ({"app": STATIC, "etc/passwd": b"root"}, "no package database, 1 static program"),
        ({"bin/busybox": STATIC, "bin/app": STATIC}, "no package database, 2 static programs"),
        ({"./bin/sh": STATIC}, "no package database, 1 static program"),
        ({"app": elf(LOAD, bits=32, order=">")}, "no package database, 1 static program"),
        ({"var/lib/dpkg": None, "usr/share/x.sock": b"x"}, "no package database, no program"),
    ],
)
def test_static_programs_are_no_gap(files: Layer, root: str) -> None:
    """An image from scratch passes, and its report describes its contents."""
    assert seen(files) == Coverage(root=root)


@pytest.mark.parametrize(
    ("path", "head", "gap"),
    [
        ("etc/os-release", b"ID=arch", Gap.UNSUPPORTED_OS),
        ("usr/lib/os-release", b"ID=gentoo", Gap.UNSUPPORTED_OS),
        ("./etc/alpine-release", b"3", Gap.UNSUPPORTED_OS),
        ("/etc/arch-release", b"", Gap.UNSUPPORTED_OS),
        ("var/lib/pacman/local/openssl-3-1/desc", b"", Gap.UNSUPPORTED_OS),
        ("var/lib/rpm/rpmdb.sqlite", b"", Gap.UNSUPPORTED_OS),
        ("usr/lib/sysimage/rpm/rpmdb.sqlite", b"", Gap.UNSUPPORTED_OS),
        ("var/db/pkg/dev-libs/openssl-3/PF", b"", Gap.UNSUPPORTED_OS),
        ("var/db/xbps/pkgdb-0.38.plist", b"", Gap.UNSUPPORTED_OS),
        ("nix/var/nix/db/db.sqlite", b"", Gap.UNSUPPORTED_OS),
        ("lib/apk/db/installed", b"", Gap.UNSUPPORTED_OS),
        ("lib64/ld-linux-x86-64.so.2", b"\x7fELF", Gap.UNIDENTIFIED),
        ("lib/ld-musl-aarch64.so.1", b"", Gap.UNIDENTIFIED),
        ("usr/lib/libssl.so.3", b"", Gap.UNIDENTIFIED),
        ("opt/app/plugin.so", b"", Gap.UNIDENTIFIED),
        ("app", DYNAMIC, Gap.UNIDENTIFIED),
        ("app", elf(INTERP, bits=32), Gap.UNIDENTIFIED),
        ("bin/bash", b"no ELF", Gap.UNIDENTIFIED),
        ("usr/local/bin/python3.12", b"", Gap.UNIDENTIFIED),
    ],
)
def test_more_than_static_programs_is_a_gap(path: str, head: bytes, gap: Gap) -> None:
    """A system's name or package database is one that the engine does not know; libraries alone have no name."""
    languages = (LanguagePackages(type="jar", files=1, packages=2),)

    found = seen({"static": STATIC, path: head}, scanned=Coverage(languages=languages))

    named = f"no operating system that the engine knows, but {path.removeprefix('./').removeprefix('/')}"
    assert found == Coverage(root=named, languages=languages, gaps=(gap,))


@pytest.mark.parametrize(
    ("layers", "gaps"),
    [
        ([{"lib/libc.so.6": b""}, {"lib/.wh.libc.so.6": b""}], ()),
        ([{"lib/libc.so.6": b""}, {".wh.lib": b""}], ()),
        ([{"lib/libc.so.6": b""}, {"lib/.wh..wh..opq": b"", "lib/x": b""}], ()),
        ([{"lib/libc.so.6": b""}, {".wh..wh..opq": b"", "x": b""}], ()),
        ([{"lib/libc.so.6": b""}, {"lib": b"a file now"}], ()),
        # A whiteout is for the layers below: not for its own, nor for those above.
        ([{"lib/.wh.libc.so.6": b"", "lib/libc.so.6": b""}], (Gap.UNIDENTIFIED,)),
        ([{"lib/libc.so.6": b"", "lib/.wh..wh..opq": b""}], (Gap.UNIDENTIFIED,)),
        ([{"lib/.wh.libc.so.6": b""}, {"lib/libc.so.6": b""}], (Gap.UNIDENTIFIED,)),
        ([{"lib/libc.so.6": b""}, {"lib": None}], (Gap.UNIDENTIFIED,)),
        ([{"lib/libc.so.6": b""}, {"lib/.wh.libc.so": b""}], (Gap.UNIDENTIFIED,)),
        # Runtimes pass over an entry for the root itself, and over a whiteout of nothing.
        ([{"lib/libc.so.6": b""}, {"./": b"a file?"}], (Gap.UNIDENTIFIED,)),
        ([{"lib/libc.so.6": b""}, {"/.": b"a file?"}], (Gap.UNIDENTIFIED,)),
        ([{"lib/libc.so.6": b""}, {".wh.": b""}], (Gap.UNIDENTIFIED,)),
        ([{"lib/libc.so.6": b""}, {"lib/.wh.": b""}], (Gap.UNIDENTIFIED,)),
    ],
)
def test_layers_hide_what_is_below_them(layers: list[Layer], gaps: tuple[Gap, ...]) -> None:
    """What an upper layer removed or replaced is not in the image; what it only seems to hide is."""
    assert seen(*layers).gaps == gaps


@pytest.mark.parametrize("size", [0, 4, 16, 40, 60, 100])
def test_a_program_whose_head_is_cut_needs_a_loader(size: int) -> None:
    """An undecidable file does not count as static."""
    assert needs_loader(STATIC[:size])
    assert not needs_loader(STATIC)


def test_a_path_of_an_image_stays_on_its_line() -> None:
    """It ends in a log, a verdict and a page, and whoever built the image chose it."""
    root = seen({"a\nERROR x\x1b[2J" + "y" * 500 + ".so": b""}).root

    assert (root.splitlines(), len(root) < 200) == ([root], True)
    assert "a?ERROR x?[2Jy" in root
