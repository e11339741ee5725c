"""Bytes pass only if they are what their digest says."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_chain.core.reference import sha256_digest
from delivery_chain.errors import ContentMismatch
from delivery_chain.oci.content import verified

GOOD = b"0123456789"
DIGEST = sha256_digest(GOOD)


@given(st.lists(st.binary(max_size=20)))
def test_right_bytes_come_out_as_they_went_in(chunks: list[bytes]) -> None:
    """However the bytes are cut, they come out whole."""
    content = b"".join(chunks)

    assert b"".join(verified(chunks, sha256_digest(content), len(content), "x")) == content


def test_sha512_is_checked_too() -> None:
    """The digest's own algorithm counts."""
    digest = f"sha512:{hashlib.sha512(GOOD).hexdigest()}"

    assert b"".join(verified([GOOD], digest, None, "x")) == GOOD


WRONG = {
    "other bytes": ([b"01234", b"5678X"], 10, "expected sha256"),
    "too few": ([b"01234", b"5678"], 10, "expected 10 bytes, found 9"),
    "too many": ([b"01234", b"567890", b"more"], 10, "expected 10 bytes, found more"),
    "nothing": ([], 10, "found 0"),
    "other bytes of unknown size": ([b"x"], None, "expected sha256"),
}


@pytest.mark.parametrize(("chunks", "size", "message"), WRONG.values(), ids=WRONG)
def test_wrong_bytes_never_come_out_whole(chunks: list[bytes], size: int | None, message: str) -> None:
    """A receiver that waits for the announced size never gets it."""
    received: list[bytes] = []
    with pytest.raises(ContentMismatch, match=message):
        received.extend(verified(chunks, DIGEST, size, "blob"))

    # What `extend` took before the error stays in the list.
    assert len(b"".join(received)) < len(GOOD)
