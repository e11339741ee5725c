"""The bbolt writer, tested with a small reader of the same format."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delivery_chain.errors import ConfigurationError
from delivery_chain.sandbox.bbolt import MAX_KEY, PAGE_SIZE, dump_bbolt, write_bbolt

if TYPE_CHECKING:
    from pathlib import Path


class Reader:
    """Reads a whole bbolt file, and checks what bbolt's own `Tx.Check` would look at."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.used = {0, 1, 2}
        for number in (0, 1):
            self.meta = self._meta(number)
        assert len(content) == self.meta[7] * PAGE_SIZE

    def _meta(self, number: int) -> tuple[int, ...]:
        start = number * PAGE_SIZE
        assert struct.unpack_from("<QHHI", self.content, start) == (number, 4, 0, 0)
        body = self.content[start + 16 : start + 72]
        value = 0xCBF29CE484222325
        for byte in body:
            value = (value ^ byte) * 0x100000001B3 % 2**64
        assert struct.unpack_from("<Q", self.content, start + 72) == (value,)
        meta = struct.unpack("<IIIIQQQQQ", body)
        assert (meta[0], meta[1], meta[2], meta[8]) == (0xED0CDAED, 2, PAGE_SIZE, number)
        return meta

    def tree(self) -> dict[bytes, Any]:
        found = self._bucket(self.meta[4])
        assert self.used == set(range(self.meta[7])), "every page below the high water belongs to one owner"
        return found

    def _bucket(self, page: int) -> dict[bytes, Any]:
        entries = list(self._walk(page))
        assert [key for key, _ in entries] == sorted({key for key, _ in entries})
        return dict(entries)

    def _walk(self, page: int) -> list[tuple[bytes, Any]]:
        start = page * PAGE_SIZE
        number, flags, count, overflow = struct.unpack_from("<QHHI", self.content, start)
        assert number == page
        pages = set(range(page, page + overflow + 1))
        assert not pages & self.used
        self.used |= pages
        if flags == 2:
            return self._leaf(start, count)
        assert flags == 1
        assert count >= 2
        found: list[tuple[bytes, Any]] = []
        for at in range(count):
            element = start + 16 + at * 16
            position, size, child = struct.unpack_from("<IIQ", self.content, element)
            below = self._walk(child)
            assert self.content[element + position : element + position + size] == below[0][0]
            found += below
        return found

    def _leaf(self, start: int, count: int) -> list[tuple[bytes, Any]]:
        found: list[tuple[bytes, Any]] = []
        for at in range(count):
            element = start + 16 + at * 16
            flags, position, key_size, value_size = struct.unpack_from("<IIII", self.content, element)
            key_at = element + position
            value_at = key_at + key_size
            key = self.content[key_at:value_at]
            if flags == 0:
                found.append((key, self.content[value_at : value_at + value_size]))
                continue
            root, sequence = struct.unpack_from("<QQ", self.content, value_at)
            assert sequence == 0
            found.append((key, self._bucket(root) if root else self._inlined(value_at + 16)))
        return found

    def _inlined(self, start: int) -> dict[bytes, Any]:
        number, flags, count, overflow = struct.unpack_from("<QHHI", self.content, start)
        assert (number, flags, overflow) == (0, 2, 0)
        return dict(self._leaf(start, count))


def read(content: bytes) -> dict[bytes, Any]:
    return Reader(content).tree()


KEYS = st.binary(min_size=1, max_size=40) | st.binary(min_size=1, max_size=3000)
VALUES = st.binary(max_size=100) | st.integers(0, 12_000).map(lambda size: b"v" * size)
BUCKETS = st.recursive(
    st.dictionaries(KEYS, VALUES, max_size=30),
    lambda inner: st.dictionaries(KEYS, inner | VALUES, max_size=6),
    max_leaves=12,
)


@settings(deadline=None)
@given(tree=st.dictionaries(KEYS, BUCKETS, max_size=6))
def test_what_is_written_is_read_back(tree: dict[bytes, Any]) -> None:
    """Any tree of buckets comes back whole, with every page used once."""
    assert read(dump_bbolt(tree)) == tree


@pytest.mark.parametrize(
    "tree",
    [
        {},
        {b"a": {}},
        {b"a": {b"k%05d" % n: b"value" for n in range(20_000)}},
        {b"a": {b"k": b"v" * 70_000, b"l": b"v"}},
        {b"a": {bytes([n]) * MAX_KEY: b"v" for n in range(1, 9)}},
        {b"a": {b"b%04d" % n: {b"CVE": b"x" * (n % 1200)} for n in range(900)}},
    ],
    ids=["nothing", "an empty bucket", "three levels", "overflow", "longest keys", "nested and inlined"],
)
def test_the_corners_of_the_format_are_read_back(tree: dict[bytes, Any]) -> None:
    """Empty, deep, wide and oversized trees come back whole."""
    assert read(dump_bbolt(tree)) == tree


def test_equal_trees_give_equal_bytes() -> None:
    """The order in which a tree was put together does not show."""
    pairs = [(b"%d" % n, {b"k": b"v"}) for n in range(50)]

    assert dump_bbolt(dict(pairs)) == dump_bbolt(dict(reversed(pairs)))


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({b"a": b"value"}, "must be a bucket"),
        ({b"": {}}, "a key has 0 bytes"),
        ({b"a": {b"": b"v"}}, "a key has 0 bytes"),
        ({b"a": {b"k" * (MAX_KEY + 1): b"v"}}, f"expected 1 to {MAX_KEY}"),
    ],
    ids=["a value on top", "an empty name", "an empty key", "a key too long"],
)
def test_what_bbolt_itself_refuses_is_refused(tree: dict[bytes, Any], message: str) -> None:
    """A file that bbolt could not have made is not written."""
    with pytest.raises(ConfigurationError, match=message):
        dump_bbolt(tree)


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    """Writing leaves the new content under the name and nothing else in the folder."""
    target = tmp_path / "trivy.db"
    target.write_bytes(b"old")

    write_bbolt(target, {b"a": {b"k": b"v"}})

    assert read(target.read_bytes()) == {b"a": {b"k": b"v"}}
    assert list(tmp_path.iterdir()) == [target]
