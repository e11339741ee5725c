"""Bytes that are what their digest says: checked as they pass by, in constant memory."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from delivery_chain.core.reference import check_digest
from delivery_chain.errors import ContentMismatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def verified(chunks: Iterable[bytes], digest: str, size: int | None, what: str) -> Iterator[bytes]:
    """Pass bytes on and check them on the way.

    One chunk is always held back until the bytes after it are known, so the last one is passed on only if the
    digest and the size are right: a receiver that waits for `size` bytes never gets a whole wrong blob.

    Args:
        chunks: The bytes.
        digest: What they have to hash to.
        size: How many they have to be; None where nobody said.
        what: The thing, for the message.

    Raises:
        ContentMismatch: Too many, too few or other bytes. Retryable.
    """
    algorithm, _, expected = check_digest(digest).partition(":")
    hasher = hashlib.new(algorithm)
    seen = 0
    held = b""
    for chunk in chunks:
        seen += len(chunk)
        if size is not None and seen > size:
            raise ContentMismatch(f"{what}: expected {size} bytes, found more. They were thrown away")
        hasher.update(chunk)
        if held:
            yield held
        held = chunk
    if size is not None and seen != size:
        raise ContentMismatch(f"{what}: expected {size} bytes, found {seen}. They were thrown away")
    if hasher.hexdigest() != expected:
        found = f"{algorithm}:{hasher.hexdigest()}"
        raise ContentMismatch(f"{what}: expected {digest}, found {found}. The bytes were thrown away")
    if held:
        yield held


def check_content(content: bytes, digest: str, what: str) -> bytes:
    """Return `content` unchanged.

    Raises:
        ContentMismatch: It does not hash to `digest`. Retryable.
    """
    return b"".join(verified([content], digest, None, what))
