"""Paginated lists: tags, repositories, referrers. Bounded, with every entry checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from delivery_chain.errors import ProtocolViolation
from delivery_chain.oci import json_fields
from delivery_chain.oci.manifest import OCI_INDEX, Descriptor, parse_descriptor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from delivery_chain.oci.http.auth import Scopes
    from delivery_chain.oci.http.session import Session

MAX_LISTED = 100_000
"""Maximum number of entries of one list: more tags than a usable repository has."""
PAGE_SIZE = 1000
"""Page size to request; registries may return fewer."""


def list_names(session: Session, path: str, key: str, *, what: str, scopes: Scopes) -> tuple[str, ...]:
    """Return the strings under `key` of every page of `path`, without duplicates, in the registry's order.

    Raises:
        ProtocolViolation: The list has more than 100,000 entries, or one that is not a string.
    """
    found: dict[str, None] = {}
    for entry in _entries(session, path, key, what=what, scopes=scopes, accept="application/json"):
        if not isinstance(entry, str):
            raise ProtocolViolation(f"{what}: expected names in {key!r}, found {type(entry).__name__}")
        found[entry] = None
    return tuple(found)


def list_descriptors(session: Session, path: str, *, what: str, scopes: Scopes) -> tuple[Descriptor, ...]:
    """Return the `manifests` of a paginated index.

    Raises:
        ProtocolViolation: The list has more than 100,000 entries, or one that is not a descriptor.
    """
    entries = _entries(session, path, "manifests", what=what, scopes=scopes, accept=OCI_INDEX)
    return tuple(parse_descriptor(entry, what) for entry in entries)


def _entries(
    session: Session, path: str, key: str, *, what: str, scopes: Scopes, accept: str
) -> Iterator[object]:
    count = 0
    for page in session.pages(path, what=what, scopes=scopes, headers={"Accept": accept}):
        data = json_fields.load_object(page, what)
        entries = json_fields.rows(data, key, what, limit=MAX_LISTED)
        count += len(entries)
        if count > MAX_LISTED:
            raise ProtocolViolation(f"{what}: expected at most {MAX_LISTED} entries, found more")
        yield from entries
