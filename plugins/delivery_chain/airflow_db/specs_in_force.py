"""Reads which specs are in force from the Variables that the Dag processor writes. `airflow db clean` keeps them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from pydantic import ValidationError

from delivery_chain.airflow_db.variables import plain, stored
from delivery_chain.core.spec.in_force import INDEX, Index, Kept, kept_key

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.orm import Session

    from delivery_chain.core.spec.model import ChainSpec


def open_chains(session: Session) -> dict[str, str] | None:
    """Fingerprint of each chain that takes new runs, by name; None if no spec was parsed yet."""
    row = stored(session, [INDEX]).get(INDEX)
    index = _index(*row) if row else None
    if index is None:
        return None
    return {name: entry.fingerprint for name, entry in index.chains.items() if entry.state.runs}


def specs_of(session: Session, chains: Collection[str]) -> dict[str, ChainSpec]:
    """The stored specs of these chains, by name, without those that this version can't read."""
    names = {kept_key(name): name for name in chains}
    found = {}
    for key, row in stored(session, names).items():
        try:
            found[names[key]] = Kept.model_validate_json(plain(*row)).read()
        except ValueError:
            continue
    return found


@lru_cache(maxsize=1)
def _index(text: str, encrypted: bool) -> Index | None:  # noqa: FBT001 - a column
    try:
        return Index.model_validate_json(plain(text, encrypted))
    except ValidationError:
        return None
