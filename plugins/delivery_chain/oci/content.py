"""Bytes that are what their digest says: checked as they pass by, in constant memory."""

from __future__ import annotations

import hashlib

from delivery_chain.core.names.reference import check_digest
from delivery_chain.errors import ContentMismatch


class ContentCheck:
    """Watches the bytes of one blob go by, from the first to the last."""

    def __init__(self, digest: str, what: str) -> None:
        """Nothing was seen yet.

        Args:
            digest: What the bytes have to hash to.
            what: The thing, for the message.
        """
        self._algorithm, _, self._expected = check_digest(digest).partition(":")
        self._hasher = hashlib.new(self._algorithm)
        self._what = what

    def add(self, piece: bytes | memoryview) -> None:
        """The next bytes."""
        self._hasher.update(piece)

    def finish(self) -> None:
        """All bytes were added. Ask this before the last piece is passed on: then wrong bytes are never whole.

        Raises:
            ContentMismatch: They are other bytes. Retryable.
        """
        found = self._hasher.hexdigest()
        if found != self._expected:
            raise ContentMismatch(
                f"{self._what}: expected {self._algorithm}:{self._expected}, found {self._algorithm}:{found}. "
                "The bytes were thrown away"
            )


def check_content(content: bytes, digest: str, what: str) -> bytes:
    """Return `content` unchanged.

    Raises:
        ContentMismatch: It does not hash to `digest`. Retryable.
    """
    check = ContentCheck(digest, what)
    check.add(content)
    check.finish()
    return content
