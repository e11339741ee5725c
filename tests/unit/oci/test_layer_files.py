"""The list of a layer's files, as other tar readers see it, and bounded for untrusted layers."""

from __future__ import annotations

import io
import struct
import tarfile
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from delivery_chain.core.gate.root_files import HEAD, Entry
from delivery_chain.oci.layer_files import LONGEST_NAME, Budget, LayerUnreadable, tar_entries


def budget(**limits: int) -> Budget:
    return Budget(time.monotonic() + 60, **limits)


def packed(members: list[tarfile.TarInfo], content: bytes, form: int) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(content) if member.isreg() else None)
    return stream.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.size, found.linkname = kind, size, "target" if kind in (b"1", b"2") else ""
    return found


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=300).filter(
    lambda name: name.strip("/.") and not name.endswith("/")
)
KINDS = st.sampled_from([tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE])


@settings(deadline=None)
@example([("ä\n", tarfile.REGTYPE)], b"", tarfile.PAX_FORMAT)
@given(
    st.lists(st.tuples(NAMES, KINDS), max_size=5),
    st.binary(max_size=3000),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_entries_are_those_that_python_sees(
    entries: list[tuple[str, bytes]], content: bytes, form: int
) -> None:
    """Names of any length and alphabet, links and folders, in both formats."""
    members = [member(name, kind, len(content) if kind == tarfile.REGTYPE else 0) for name, kind in entries]
    raw = packed(members, content, form)

    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        expected = [
            Entry(one.name, one.isreg() or one.islnk(), one.isdir(), content[:HEAD] if one.isreg() else b"")
            for one in archive
        ]

    found = [
        Entry(one.path.rstrip("/"), one.is_file, one.is_folder, one.head)
        for one in tar_entries(io.BytesIO(raw), budget())
    ]
    assert found == [Entry(one.path.rstrip("/"), one.is_file, one.is_folder, one.head) for one in expected]


def test_a_large_file_is_skipped() -> None:
    """Of a file only the head is kept, and the next entry is found behind it."""
    content = b"\x7fELF" + bytes(3_000_000)
    raw = packed([member("big", size=len(content)), member("next")], content, tarfile.PAX_FORMAT)

    assert [(one.path, len(one.head)) for one in tar_entries(io.BytesIO(raw), budget())] == [
        ("big", HEAD),
        ("next", 0),
    ]


def _header(name: bytes, size: int, kind: bytes) -> bytes:
    header = bytearray(512)
    header[: len(name)] = name
    header[124:136] = b"%011o\0" % size
    header[156:157] = kind
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"x", "ends early"),
        (b"x" * 512, "not a tar"),
        (_header(b"a", 10, b"0"), "ends early"),
        (_header(b"a", LONGEST_NAME + 1, b"x"), "a header of 65537 bytes"),
        (_header(b"a", 8**11 - 1, b"L"), "a header of"),
        (_header(b"a", 0, b"S"), "sparse"),
        (_header(b"x", 11, b"x") + b"11 size=-5\n".ljust(512, b"\0") + _header(b"a", 0, b"0"), "pax size"),
    ],
)
def test_what_is_no_tar_is_refused(raw: bytes, problem: str) -> None:
    """A malformed or hostile archive is an error, read within bounds."""
    with pytest.raises(LayerUnreadable, match=problem):
        list(tar_entries(io.BytesIO(raw), budget()))


@pytest.mark.parametrize(
    ("limits", "problem"), [({"most_bytes": 4096}, "too large"), ({"most_entries": 2}, "too many files")]
)
def test_the_budget_bounds_an_image(limits: dict[str, int], problem: str) -> None:
    """Bytes and entries are counted over all layers."""
    raw = packed([member(str(number), size=1000) for number in range(5)], bytes(1000), tarfile.PAX_FORMAT)

    with pytest.raises(LayerUnreadable, match=problem):
        list(tar_entries(io.BytesIO(raw), budget(**limits)))


def test_an_archive_may_end_without_its_end_mark() -> None:
    """Go's reader, which runtimes use, takes such an archive, and an empty one too."""
    assert list(tar_entries(io.BytesIO(b""), budget())) == []
    assert [one.path for one in tar_entries(io.BytesIO(_header(b"a", 0, b"0")), budget())] == ["a"]


def test_a_size_in_base_256_is_read() -> None:
    """GNU tar writes sizes from 8 GiB on so; here a small one."""
    header = bytearray(_header(b"a", 0, b"0"))
    header[124:136] = b"\x80" + struct.pack(">3xQ", 600)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    raw = bytes(header) + bytes(1024) + _header(b"b", 0, b"0") + bytes(1024)

    assert [one.path for one in tar_entries(io.BytesIO(raw), budget())] == ["a", "b"]
