"""Ends of a run, and how lists and notes name them."""

from __future__ import annotations

from enum import StrEnum

from delivery_chain.core.steps import FAILED, SUCCESS

ENDED = frozenset({SUCCESS, FAILED})
"""Airflow's states of a run that has ended."""
WARNING = "NOT TO BE TRUSTED"
"""Start of a run's sentence if a value was changed afterwards."""


class End(StrEnum):
    """End of a run, or why it has not ended: the first words of its note."""

    DELIVERED = "delivered"
    """Published, and in every region and announced to every target that the plan names for its tags."""
    PARTLY = "partly delivered"
    """Published, but something else is missing."""
    BLOCKED = "blocked"
    """The gate refused the image."""
    SUPERSEDED = "superseded"
    """A newer push has a run of its own."""
    BUILT = "built before"
    """A redelivered push; its image exists."""
    IGNORED = "not for this chain"
    """The event requires no work."""
    REFUSED = "refused"
    """The event starts no run, and its sender should know."""
    CANCELLED = "cancelled"
    """A user stopped it."""
    FAILED = "failed"
    """A step failed."""
    WAITING = "waiting"
    """It has not ended, and nothing is in flight: `sentence` says why."""
    RUNNING = "running"
    """It is in flight."""


FINE = frozenset({End.DELIVERED, End.SUPERSEDED, End.BUILT, End.IGNORED})
"""Ends of a successful run."""
OPEN = frozenset({End.WAITING, End.RUNNING})


def in_a_word(state: str, note: str) -> str:
    """A run's state for a list, with the end that its note begins with where that says more: `success (blocked)`."""
    heads = {end: (f"{end}:", f"{end} in ", f"{end} by ") for end in (End.CANCELLED, End.FAILED)}
    end = next((end for end in End if note.startswith(heads.get(end, f"{end}:"))), None)
    plain = {SUCCESS: End.DELIVERED, FAILED: End.FAILED}.get(state)
    return state if state not in ENDED or end in {None, plain, *OPEN} else f"{state} ({end})"
