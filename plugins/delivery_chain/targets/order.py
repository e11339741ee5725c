"""Describe a delivery to a target: one image under one tag, by reference."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from delivery_chain.core.spec.delivery import Trigger


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One image under one tag to deliver to a target."""

    id: str
    """Id from `delivery_id`, by which targets may deduplicate."""
    trigger: Trigger
    """The trigger, with the options of its kind."""
    tag: str
    digest: str
    """Digest of the manifest or index."""
    name: str
    """`namespace/repository`."""
    pushed_at: datetime
    """Time of the source push."""
    host: str
    """Host of the home registry."""
    region: str
    """Home region."""
    chain: str
    run_id: str
    regions: Mapping[str, str]
    """Maps a replication rule to the image reference by digest in its region, for targets that pull from there."""


def delivery_id(*, chain: str, run_id: str, trigger: str, tag: str, digest: str) -> str:
    """Return the id of an order: the same for every attempt and retry."""
    parts = f"{chain}\x00{run_id}\x00{trigger}\x00{tag}\x00{digest}"
    return f"dlv_{hashlib.sha256(parts.encode()).hexdigest()[:32]}"
