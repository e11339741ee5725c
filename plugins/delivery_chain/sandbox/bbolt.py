"""Writes whole trees as bbolt files, the key-value format of Trivy's vulnerability database.

Supports only bulk loads: buckets and byte strings, no changes to an existing file. Equal trees give
equal bytes.

Source: go.etcd.io/bbolt, "Page", "Meta", "Bucket" (format version 2); checked against Go's `tx.Check()`.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from delivery_chain.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

Tree: TypeAlias = Mapping[bytes, "Tree | bytes"]
"""A bucket: maps keys, which are not empty, to values or to nested buckets."""

PAGE_SIZE = 4096
"""Page size in bytes. The meta page states it, so any machine can read the file."""
MAX_KEY = 32768
"""Longest key that bbolt accepts, in bytes."""
_MAX_ENTRIES = 65_534
_HEADER = struct.Struct("<QHHI")
_LEAF_ELEMENT = struct.Struct("<IIII")
_BRANCH_ELEMENT = struct.Struct("<IIQ")
_BUCKET = struct.Struct("<QQ")
_META = struct.Struct("<IIIIQQQQQ")
_BRANCH, _LEAF, _META_FLAG, _FREELIST = 0x01, 0x02, 0x04, 0x10
_NESTED = 1
_MAGIC, _VERSION = 0xED0CDAED, 2
_FREELIST_PAGE, _FIRST_DATA_PAGE = 2, 3


@dataclass(frozen=True, slots=True)
class _Entry:
    """One element of a leaf page, its value already laid out."""

    key: bytes
    value: bytes
    flags: int = 0

    def size(self) -> int:
        return _LEAF_ELEMENT.size + len(self.key) + len(self.value)


@dataclass(frozen=True, slots=True)
class _Child:
    """One element of a branch page."""

    key: bytes
    page: int

    def size(self) -> int:
        return _BRANCH_ELEMENT.size + len(self.key)


@dataclass(slots=True)
class _Pages:
    """The data pages laid out so far, children before their parents."""

    chunks: list[bytes] = field(default_factory=list)
    next_page: int = _FIRST_DATA_PAGE

    def add(self, flags: int, count: int, body: bytes) -> int:
        """Append one page, with as many overflow pages as its body needs, and return its id."""
        pages = -(-(_HEADER.size + len(body)) // PAGE_SIZE)
        page = self.next_page
        self.chunks.append(_page(page, flags, count, body, pages))
        self.next_page += pages
        return page


def write_bbolt(path: Path, tree: Tree) -> None:
    """Write `tree` as a bbolt file, atomically.

    Args:
        path: Target; an existing file is replaced.
        tree: Every value at the top level must be a bucket, as bbolt itself requires.

    Raises:
        ConfigurationError: A key is empty or too long, or the top level has a plain value.
    """
    content = dump_bbolt(tree)
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def dump_bbolt(tree: Tree) -> bytes:
    """The bytes that `write_bbolt` writes."""
    if any(not isinstance(value, Mapping) for value in tree.values()):
        raise ConfigurationError("bbolt: every entry of the top level must be a bucket, found a value")
    pages = _Pages()
    root = _write_bucket(pages, tree)
    high_water = pages.next_page
    head = [_page(number, _META_FLAG, 0, _meta(root, high_water, transaction=number), 1) for number in (0, 1)]
    head.append(_page(_FREELIST_PAGE, _FREELIST, 0, b"", 1))
    return b"".join([*head, *pages.chunks])


def _write_bucket(pages: _Pages, bucket: Tree) -> int:
    """Lay out a bucket's pages; return the id of its root page."""
    entries = [_entry(pages, key, bucket[key]) for key in sorted(bucket)]
    level = [
        _Child(run[0].key if run else b"", pages.add(_LEAF, len(run), _leaf_body(run)))
        for run in _runs(entries)
    ]
    while len(level) > 1:
        level = [
            _Child(run[0].key, pages.add(_BRANCH, len(run), _branch_body(run)))
            for run in _runs(level, at_least=2)
        ]
    return level[0].page


def _entry(pages: _Pages, key: bytes, value: Tree | bytes) -> _Entry:
    if not 0 < len(key) <= MAX_KEY:
        raise ConfigurationError(f"bbolt: a key has {len(key)} bytes, expected 1 to {MAX_KEY}")
    if isinstance(value, bytes):
        return _Entry(key, value)
    inline = _inline(value)
    if inline is not None:
        return _Entry(key, inline, _NESTED)
    return _Entry(key, _BUCKET.pack(_write_bucket(pages, value), 0), _NESTED)


def _inline(bucket: Tree) -> bytes | None:
    """Encode a small bucket of plain values for its parent's page; return None if it needs pages of its own.

    Source: bbolt `Bucket.inlineable`: no nested bucket, at most a quarter of a page.
    """
    entries: list[_Entry] = []
    for key in sorted(bucket):
        value = bucket[key]
        if not isinstance(value, bytes) or not 0 < len(key) <= MAX_KEY:
            return None
        entries.append(_Entry(key, value))
    body = _leaf_body(entries)
    if _HEADER.size + len(body) > PAGE_SIZE // 4:
        return None
    return _BUCKET.pack(0, 0) + _HEADER.pack(0, _LEAF, len(entries), 0) + body


_E = TypeVar("_E", _Entry, _Child)


def _runs(elements: Sequence[_E], *, at_least: int = 1) -> Iterator[Sequence[_E]]:
    """Split a level's elements into pages; an empty bucket gets one empty page.

    A branch page holds at least two children, however long their keys are: with single children, the levels of the
    tree would never converge to one root.
    """
    start, size = 0, _HEADER.size
    for index, element in enumerate(elements):
        count = index - start
        full = size + element.size() > PAGE_SIZE or count >= _MAX_ENTRIES
        if full and count >= at_least:
            yield elements[start:index]
            start, size = index, _HEADER.size
        size += element.size()
    yield elements[start:]


def _leaf_body(entries: Sequence[_Entry]) -> bytes:
    elements, data = bytearray(), bytearray()
    table = len(entries) * _LEAF_ELEMENT.size
    for index, entry in enumerate(entries):
        position = table - index * _LEAF_ELEMENT.size + len(data)
        elements += _LEAF_ELEMENT.pack(entry.flags, position, len(entry.key), len(entry.value))
        data += entry.key + entry.value
    return bytes(elements + data)


def _branch_body(children: Sequence[_Child]) -> bytes:
    elements, data = bytearray(), bytearray()
    table = len(children) * _BRANCH_ELEMENT.size
    for index, child in enumerate(children):
        position = table - index * _BRANCH_ELEMENT.size + len(data)
        elements += _BRANCH_ELEMENT.pack(position, len(child.key), child.page)
        data += child.key
    return bytes(elements + data)


def _page(number: int, flags: int, count: int, body: bytes, pages: int) -> bytes:
    return (_HEADER.pack(number, flags, count, pages - 1) + body).ljust(pages * PAGE_SIZE, b"\0")


def _meta(root: int, high_water: int, *, transaction: int) -> bytes:
    body = _META.pack(_MAGIC, _VERSION, PAGE_SIZE, 0, root, 0, _FREELIST_PAGE, high_water, transaction)
    return body + struct.pack("<Q", _fnv1a(body))


def _fnv1a(content: bytes) -> int:
    """FNV-1a, 64 bits: bbolt's checksum of a meta page."""
    value = 0xCBF29CE484222325
    for byte in content:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value
