"""Renders the page of push events with its filter form.

Airflow's menu shows the page in a frame. Links to Airflow's own pages must leave the frame, which the frame itself is
not allowed to do. So a small script makes the surrounding page, which is of the same origin, open them.
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
"""Maximum number of rows on the page; the rest is only counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The submitted form."""

    since: str
    source: str = ""
    chain: str = ""
    ref: str = ""
    gaps: bool = False
    own: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The content of the page."""

    changes: Sequence[LedgerLine] = ()
    watches: Mapping[str, Watch]
    chains: Iterable[str] = ()
    """Chain names that the form suggests."""
    notes: Sequence[str] = ()
    """Remarks above the table."""


def render(asked: Asked, shown: Shown, *, up: str = "") -> str:
    """Render the page.

    Args:
        asked: The form's fields.
        shown: The content.
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
            ("only gaps", "gaps", asked.gaps),
            ("with the chains' own writes", "own", asked.own),
        ),
        shown=shown,
        changes=shown.changes[:MOST_SHOWN],
        count=_count(shown.changes),
        notes=[*shown.notes, *([f"{more} more are not shown: narrow the filter"] if more > 0 else ())],
    )


def _count(changes: Sequence[LedgerLine]) -> str:
    gaps = sum(bool(change.gaps) for change in changes)
    few = "1 change" if len(changes) == 1 else f"{len(changes) or 'No'} changes"
    return f"{few}, {gaps} with gaps" if gaps else few
