"""Content passes only if it matches its digest."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_chain.core.names.reference import sha256_digest
from delivery_chain.errors import ContentMismatch
from delivery_chain.oci.content import ContentCheck, check_content

GOOD = b"0123456789"
DIGEST = sha256_digest(GOOD)


@given(st.lists(st.binary(max_size=20)))
def test_right_bytes_pass_however_they_are_cut(pieces: list[bytes]) -> None:
    """What counts are the bytes, not the pieces."""
    check = ContentCheck(sha256_digest(b"".join(pieces)), "x")
    for piece in pieces:
        check.add(memoryview(piece))

    check.finish()


def test_sha512_is_checked_too() -> None:
    """The digest's own algorithm counts."""
    assert check_content(GOOD, f"sha512:{hashlib.sha512(GOOD).hexdigest()}", "x") == GOOD


@pytest.mark.parametrize("content", [b"", GOOD[:-1], GOOD + b"x", b"x" * 10])
def test_other_bytes_do_not_pass(content: bytes) -> None:
    """Too few, too many or other bytes are named with what was expected and found."""
    with pytest.raises(ContentMismatch, match=f"blob: expected {DIGEST}, found sha256:"):
        check_content(content, DIGEST, "blob")
