"""Digest verification of byte streams, in constant memory."""

from __future__ import annotations

import hashlib

from delivery_chain.core.names.reference import check_digest
from delivery_chain.errors import ContentMismatch


class ContentCheck:
    """Digest check of one blob, fed piece by piece."""

    def __init__(self, digest: str, what: str) -> None:
        """Create a check that has seen no bytes yet.

        Args:
            digest: Expected digest.
            what: Name of the content, for errors.
        """
        self._algorithm, _, self._expected = check_digest(digest).partition(":")
        self._hasher = hashlib.new(self._algorithm)
        self._what = what

    def add(self, piece: bytes | memoryview) -> None:
        """Add the next bytes."""
        self._hasher.update(piece)

    def finish(self) -> None:
        """Check the digest. Call this before passing on the last piece, so that no receiver gets wrong content whole.

        Raises:
            ContentMismatch: The bytes do not match. Retryable.
        """
        found = self._hasher.hexdigest()
        if found != self._expected:
            raise ContentMismatch(
                f"{self._what}: expected {self._algorithm}:{self._expected}, found {self._algorithm}:{found}. "
                "The bytes were discarded"
            )


def check_content(content: bytes, digest: str, what: str) -> bytes:
    """Return `content` unchanged if it matches `digest`.

    Raises:
        ContentMismatch: `content` does not hash to `digest`. Retryable.
    """
    check = ContentCheck(digest, what)
    check.add(content)
    check.finish()
    return content
