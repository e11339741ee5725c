"""The page of push events: what it shows, and the form that was sent for it.

Its links to Airflow's pages leave the frame in which Airflow's menu shows it: a frame of Airflow's may not do that, but
it may ask the page around it, which is of the same origin, and a small script does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from delivery_chain.web.pages import rendering

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from delivery_chain.core.events.gaps import Watch
    from delivery_chain.core.events.ledger import LedgerLine

MOST_SHOWN = 500
"""Rows of the page; the rest is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The form as it was sent."""

    since: str
    source: str = ""
    chain: str = ""
    ref: str = ""
    gaps: bool = False
    own: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What there is to show."""

    changes: Sequence[LedgerLine] = ()
    watches: Mapping[str, Watch]
    chains: Iterable[str] = ()
    """Names to offer."""
    notes: Sequence[str] = ()
    """What to know about it."""


def render(asked: Asked, shown: Shown, *, up: str = "") -> str:
    """The page.

    Args:
        asked: The form's fields.
        shown: What came of them.
        up: See `rendering.up`.
    """
    more = len(shown.changes) - MOST_SHOWN
    return rendering.render(
        "events.html",
        up=up,
        fields=(
            ("Since", "since", asked.since, "1d"),
            ("Source", "source", asked.source, "any"),
            ("Chain", "chain", asked.chain, "any"),
            ("Branch, tag or image", "ref", asked.ref, "any, such as v1.*"),
        ),
        ticks=(
            ("just gaps", "gaps", asked.gaps),
            ("with the chains' own writes", "own", asked.own),
        ),
        shown=shown,
        changes=shown.changes[:MOST_SHOWN],
        count=_count(shown.changes),
        notes=[*shown.notes, *([f"{more} more are not shown: ask for less"] if more > 0 else ())],
    )


def _count(changes: Sequence[LedgerLine]) -> str:
    gaps = sum(bool(change.gaps) for change in changes)
    few = "1 change" if len(changes) == 1 else f"{len(changes) or 'No'} changes"
    return f"{few}, {gaps} with gaps" if gaps else few
