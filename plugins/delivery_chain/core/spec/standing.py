"""Status of a chain's spec version, as shown by its Dag."""

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
"""Tag of Dags that accept no new runs: pushes are not routed to them."""
BANNERS = {
    State.INVALID: "**The spec is invalid.** This is version {version}, the last valid one; it accepts pushes as "
    "before. Airflow's import errors and `delivery-chain check` say what is wrong with `{file}`.",
    State.NO_FILES: "**The specs folder has no spec.** This is version {version}, the last one found there; "
    "it accepts pushes as before.",
    State.REMOVED: "**This chain was removed** from the specs (`{file}`). Runs in flight finish with version "
    "{version}, new ones are refused. This Dag is removed when they have ended.",
}
TAGS = {State.INVALID: INVALID_TAG, State.NO_FILES: NO_FILES_TAG, State.REMOVED: REMOVED_TAG}


@dataclass(frozen=True, slots=True)
class Standing:
    """Status of a chain's version. By default it is unknown, as for a Dag that is built outside Airflow."""

    version: str = ""
    banner: str = ""
    """Markdown; empty for a chain with a valid file."""
    tags: tuple[str, ...] = ()
    room: Widths = field(default_factory=dict)

    @classmethod
    def of(cls, entry: Entry) -> Standing:
        """Describe the state of a chain."""
        shown = version(entry.number, entry.fingerprint)
        banner = BANNERS.get(entry.state, "").format(version=shown, file=entry.file)
        tag = TAGS.get(entry.state)
        return cls(shown, banner, (tag,) if tag else (), entry.room)
