"""Read a layer's bytes and entries as a stream, within bounds, without unpacking to disk.

This module has its own tar reader, because layers are untrusted and Python's reads headers of any length into memory.

Source: POSIX.1-2017, pax interchange format; GNU tar manual, "Basic Tar Format" (types L and K, base-256 numbers).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import time
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from delivery_chain.core.gate.root_files import HEAD, Entry
from delivery_chain.errors import ContentMismatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from delivery_chain.oci.client import RegistryClient
    from delivery_chain.oci.http.exchange import Response
    from delivery_chain.oci.manifest import Descriptor

BLOCK = 512
LONGEST_NAME = 64 * 1024
"""Maximum size in bytes of a long name header or of pax records."""
MOST_BYTES = 8 * 1024**3
"""Maximum number of unpacked bytes to read from one image."""
MOST_ENTRIES = 1_000_000
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_OTHER_PACKINGS = (b"BZh", b"\xfd7zXZ\0", b"\x04\x22\x4d\x18")
"""Magic bytes of bzip2, xz and lz4: some runtimes decompress these, while scanners read them as plain tar."""
_SKIPPABLE = b"\x2a\x4d\x18"
"""Bytes 1 to 3 of a skippable zstd frame, which can hold anything, even a whole tar (RFC 8878, 3.1.2)."""
_PIECE = 1024 * 1024
_FILE_TYPES = b"0\x0017"
"""Type flags of regular files and hard links."""
_HEADER_ONLY = b"123456"
"""Type flags of links, devices, folders and pipes: no content follows, whatever the size field says."""
_FOLDER, _PAX, _PAX_GLOBAL, _GNU_NAME, _GNU_LINK, _GNU_SPARSE = b"5", b"x", b"g", b"L", b"K", b"S"
_BASE_256 = 0x80


class LayerUnreadable(ValueError):
    """A layer that is not a tar, has an unknown compression, or exceeds the budget."""


class TooLate(LayerUnreadable):
    """Raised when the read deadline passes."""


class Budget:
    """Remaining bytes, entries and time for reading an image."""

    def __init__(
        self, deadline: float, *, most_bytes: int = MOST_BYTES, most_entries: int = MOST_ENTRIES
    ) -> None:
        self._deadline = deadline
        self._bytes = most_bytes
        self._entries = most_entries

    def take(self, size: int) -> None:
        """Count unpacked bytes.

        Raises:
            LayerUnreadable: The byte limit is exceeded.
            TooLate: The deadline has passed.
        """
        self._bytes -= size
        if self._bytes < 0:
            raise LayerUnreadable("the image is too large to read")
        if time.monotonic() > self._deadline:
            raise TooLate("the time to read the image is up")

    def take_entry(self) -> None:
        """Count one entry.

        Raises:
            LayerUnreadable: The entry limit is exceeded.
        """
        self._entries -= 1
        if self._entries < 0:
            raise LayerUnreadable("the image has too many files to list")


def layer_entries(client: RegistryClient, name: str, layer: Descriptor, budget: Budget) -> Iterator[Entry]:
    """Yield a layer's entries in the order of its tar.

    Args:
        client: The registry.
        name: Repository.
        layer: Its descriptor in the manifest.
        budget: Shared by all layers of the image.

    Raises:
        LayerUnreadable: The layer is not a tar, has an unknown compression, or is too large.
        ContentMismatch: The bytes do not match the digest. Retryable.
        RegistryError: The layer could not be read; the error's class says whether a retry helps.
    """
    with client.read_blob(name, layer.digest, layer.size) as response:
        body = _Body(response, layer)
        try:
            yield from tar_entries(_unpacked(io.BufferedReader(body, _PIECE)), budget)
        except _broken() as error:
            raise LayerUnreadable(f"layer {layer.digest}: {error}") from error
        body.finish()


def check_layer(client: RegistryClient, name: str, layer: Descriptor, diff_id: str, budget: Budget) -> None:
    """Read a whole layer, and reject one whose unpacked digest is not the `diff_id` of the image's config.

    Different readers can unpack different archives from the same bytes. Runtimes accept only content with the config's
    `diff_id`, so this check ensures that scanners unpack the same content.

    Args:
        client: The registry.
        name: Repository.
        layer: Its descriptor in the manifest.
        diff_id: Digest of the unpacked tar, from the config.
        budget: Shared by all layers of the image.

    Raises:
        LayerUnreadable: The unpacked digest differs, the compression is unknown, or the layer is too large.
        ContentMismatch: The bytes do not match the digest or size. Retryable.
        RegistryError: The layer could not be read; the error's class says whether a retry helps.
    """
    with client.read_blob(name, layer.digest, layer.size) as response:
        body = _Body(response, layer)
        unpacked = hashlib.sha256()
        try:
            stream = _unpacked(io.BufferedReader(body, _PIECE))
            while piece := stream.read(_PIECE):
                budget.take(len(piece))
                unpacked.update(piece)
        except _broken() as error:
            raise LayerUnreadable(f"layer {layer.digest}: {error}") from error
        body.finish()
    if diff_id != f"sha256:{unpacked.hexdigest()}":
        raise LayerUnreadable(
            f"layer {layer.digest} unpacks to sha256:{unpacked.hexdigest()}, but the image's config says {diff_id}"
        )


def _broken() -> tuple[type[Exception], ...]:
    """Return the exceptions that decompression raises."""
    try:
        import zstandard  # noqa: PLC0415 - few layers are compressed with it
    except ImportError:
        return (EOFError, OSError, zlib.error)
    return (EOFError, OSError, zlib.error, zstandard.ZstdError)


def _unpacked(stream: io.BufferedReader) -> BinaryIO:
    start = stream.peek(6)[:6]
    if start.startswith(_OTHER_PACKINGS) or start[1:4] == _SKIPPABLE:
        raise LayerUnreadable("the layer uses a compression that runtimes and scanners read differently")
    if start.startswith(_GZIP):
        return cast("BinaryIO", gzip.GzipFile(fileobj=stream))
    if start.startswith(_ZSTD):
        try:
            import zstandard  # noqa: PLC0415 - few layers are compressed with it
        except ImportError as error:
            raise LayerUnreadable(
                "the layer is compressed with zstd; install the Python package zstandard"
            ) from error
        reader: Any = zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True)
        return cast("BinaryIO", reader)
    return cast("BinaryIO", stream)


class _Body(io.RawIOBase):
    """File-like view of a blob that verifies the digest at its end."""

    def __init__(self, response: Response, layer: Descriptor) -> None:
        self._response = response
        self._layer = layer
        self._hash = hashlib.new(layer.digest.partition(":")[0])

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        size = self._response.readinto(view)
        self._hash.update(view[:size])
        return size

    def finish(self) -> None:
        """Read to the end of the blob, including padding after the archive, and verify the digest."""
        while self.read(_PIECE):
            pass
        if self._hash.hexdigest() != self._layer.digest.partition(":")[2]:
            raise ContentMismatch(f"layer {self._layer.digest}: the registry sent other bytes")


def tar_entries(stream: BinaryIO, budget: Budget) -> Iterator[Entry]:
    """Yield the entries of an uncompressed tar.

    Raises:
        LayerUnreadable: The stream is not a tar, or the budget is exhausted.
    """
    name, size = "", None
    while any(header := _header(stream, budget)):
        _check_sum(header)
        kind = header[156:157]
        stored = _number(header[124:136])
        if kind in (_PAX, _PAX_GLOBAL, _GNU_NAME, _GNU_LINK):
            content = _small(stream, stored, budget)
            if kind == _PAX:
                records = _pax(content)
                name, size = records.get("path", name), _size(records.get("size"))
            elif kind == _GNU_NAME:
                name = content.rstrip(b"\0").decode("utf-8", "replace")
            continue
        budget.take_entry()
        if kind == _GNU_SPARSE:
            raise LayerUnreadable("a sparse file in the old GNU format, which is not supported")
        path = name or _header_name(header)
        stored = 0 if kind in _HEADER_ONLY else stored if size is None else size
        is_folder = kind == _FOLDER or path.endswith("/")
        is_file = kind in _FILE_TYPES and not is_folder
        head = _exactly(stream, min(stored, HEAD), budget)
        yield Entry(path, is_file, is_folder, head if is_file else b"")
        _skip(stream, stored - len(head) + -stored % BLOCK, budget)
        name, size = "", None


def _header(stream: BinaryIO, budget: Budget) -> bytes:
    """Read the next header. After the last entry, return zeros or no bytes at all."""
    start = stream.read(1)
    return start + _exactly(stream, BLOCK - 1, budget) if start else b""


def _exactly(stream: BinaryIO, size: int, budget: Budget) -> bytes:
    budget.take(size)
    found = bytearray()
    while len(found) < size:
        piece = stream.read(size - len(found))
        if not piece:
            raise LayerUnreadable("the tar ends early")
        found += piece
    return bytes(found)


def _skip(stream: BinaryIO, size: int, budget: Budget) -> None:
    while size > 0:
        size -= len(_exactly(stream, min(size, _PIECE), budget))


def _small(stream: BinaryIO, size: int, budget: Budget) -> bytes:
    if size > LONGEST_NAME:
        raise LayerUnreadable(f"a header of {size} bytes, expected at most {LONGEST_NAME}")
    content = _exactly(stream, size, budget)
    _skip(stream, -size % BLOCK, budget)
    return content


def _check_sum(header: bytes) -> None:
    plain = header[:148] + b" " * 8 + header[156:]
    if _number(header[148:156]) != sum(plain):
        raise LayerUnreadable("not a tar: a header's checksum is wrong")


def _number(digits: bytes) -> int:
    if digits[0] & _BASE_256:
        return int.from_bytes(digits[1:], "big")
    try:
        return int(digits.strip(b" \0") or b"0", 8)
    except ValueError as error:
        raise LayerUnreadable("not a tar: a number field is malformed") from error


def _size(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 20):  # noqa: PLR2004 - below 2 to the 64
        raise LayerUnreadable("not a tar: a pax size is not a number")
    return int(text)


def _pax(content: bytes) -> dict[str, str]:
    """Parse lines of `length key=value`; ignore everything from a malformed one on, as other readers do."""
    records = {}
    while content:
        length, space, _ = content.partition(b" ")
        if not (space and length.isdigit() and len(length) < 8 and 0 < int(length) <= len(content)):  # noqa: PLR2004 - digits of the largest header
            break
        key, _, value = content[len(length) + 1 : int(length) - 1].partition(b"=")
        records[key.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
        content = content[int(length) :]
    return records


def _header_name(header: bytes) -> str:
    name, prefix = header[:100].split(b"\0", 1)[0], header[345:500].split(b"\0", 1)[0]
    ustar = header[257:263] == b"ustar\0"
    return (b"/".join(part for part in (prefix if ustar else b"", name) if part)).decode("utf-8", "replace")
