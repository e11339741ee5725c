"""Keeps the moves of a source's refs, or of a namespace's images, as webhooks reported them. Pure.

Stored in one Airflow Variable per source or namespace, within bounds; `delivery_chain.core.events.dedupe` uses it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from pydantic import AwareDatetime, ValidationError

from delivery_chain.core.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_REFS = 100
"""Refs per source whose history is kept: at most some 200 kB in Airflow's database, written at each push."""
MOST_TEXT = 256 * 1024
"""Characters in total, plus a third if Airflow encrypts it. A bound, because names and ids come from outside."""
CLOCKS = timedelta(seconds=5)
"""Tolerated skew between the clocks of the triggerer, the workers and the API server."""


def utc(text: str) -> datetime:
    """Parse an ISO 8601 time; one without a zone, as a person may write it, is UTC.

    Raises:
        ValueError: It is not one.
    """
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


class Sighting(Value):
    """The arrival of a ref at a commit, as a webhook reported it or the sensor saw it."""

    commit: str
    """Commit, or an image's digest; empty for a deleted ref."""
    before: str | None
    """Commit or digest that it moved from; empty for a new ref, None if unknown."""
    at: AwareDatetime
    """When the report arrived; for a late one, an estimate of when the ref moved."""
    said: AwareDatetime | None = None
    """Time of the push by the sender's clock, if given."""
    again: AwareDatetime | None = None
    """When it was last reported in doubt: possibly another push that made the same move."""
    told: tuple[tuple[str, str], ...] = ()
    """The webhooks that reported it, each with its delivery id."""


History = tuple[Sighting, ...]
"""The last sightings of one ref, the newest last."""


class Told(Value):
    """The moves that webhooks reported for one source's refs, or one namespace's images; an Airflow Variable."""

    refs: dict[str, History] = {}

    @classmethod
    def read(cls, text: str | None) -> Told:
        """Read the Variable; a missing one, or one that a manual edit broke, counts as empty.

        A lost history costs at most a redundant run: run ids stay unique, and the sensor misses no push.
        """
        try:
            return cls.model_validate_json(text or "{}")
        except ValidationError:
            return cls()

    def to_text(self) -> str:
        """Text for the Variable; beyond `MOST_TEXT`, the refs least recently reported are evicted."""
        told = self
        while len(text := told.model_dump_json(exclude_defaults=True)) > MOST_TEXT and told.refs:
            kept = sorted(told.refs, key=lambda name: told.refs[name][-1].at)[len(told.refs) // 4 + 1 :]
            told = Told(refs={name: told.refs[name] for name in kept})
        return text

    def with_history(self, ref: str, history: History) -> Told:
        """Return a copy with a ref's history; beyond `MOST_REFS`, the refs least recently reported are evicted."""
        refs = {**{name: old for name, old in self.refs.items() if name != ref}, ref: history}
        if len(refs) > MOST_REFS:
            kept = sorted(refs, key=lambda name: refs[name][-1].at)[-MOST_REFS:]
            refs = {name: refs[name] for name in kept}
        return Told(refs=refs)

    def between(self, seen: Mapping[str, str], *, since: datetime, looked: datetime) -> dict[str, str]:
        """Refs reported elsewhere between two polls that saw them unmoved: name to the reported commit or digest.

        Args:
            seen: Refs that both polls saw, with the commit or digest.
            since: Start of the first poll.
            looked: Start of the second poll.
        """
        found: dict[str, str] = {}
        for ref, history in self.refs.items():
            here = seen.get(ref)
            for one in history if here else ():
                if since < one.at + CLOCKS <= looked and one.commit != here:
                    found[ref] = one.commit
        return found
