"""What the Dag of a chain says of the version that it was made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from delivery_chain.core.spec.in_force import State, version

if TYPE_CHECKING:
    from delivery_chain.core.spec.in_force import Entry
    from delivery_chain.core.spec.slots import Widths

INVALID_TAG = "invalid spec"
NO_FILES_TAG = "no spec files"
REMOVED_TAG = "removed chain"
"""Dags with this tag take no new runs: no push is for them."""
BANNERS = {
    State.INVALID: "**The spec is invalid.** This is version {version}, the last good one; it takes pushes as before. "
    "Airflow's import errors and `delivery-chain check` say what is wrong with `{file}`.",
    State.NO_FILES: "**There is no spec in the specs folder.** This is version {version}, the last one that was there; "
    "it takes pushes as before.",
    State.REMOVED: "**This chain was removed** from the specs (`{file}`). Runs on their way end by version {version}, "
    "new ones are refused. This Dag goes when they have ended.",
}
TAGS = {State.INVALID: INVALID_TAG, State.NO_FILES: NO_FILES_TAG, State.REMOVED: REMOVED_TAG}


@dataclass(frozen=True, slots=True)
class Standing:
    """Of a chain that nothing is known of: a Dag that is made outside of Airflow."""

    version: str = ""
    banner: str = ""
    """Markdown; empty for a chain whose file is good."""
    tags: tuple[str, ...] = ()
    room: Widths = field(default_factory=dict)

    @classmethod
    def of(cls, entry: Entry) -> Standing:
        """What is known of a chain."""
        shown = version(entry.number, entry.fingerprint)
        banner = BANNERS.get(entry.state, "").format(version=shown, file=entry.file)
        tag = TAGS.get(entry.state)
        return cls(shown, banner, (tag,) if tag else (), entry.room)
