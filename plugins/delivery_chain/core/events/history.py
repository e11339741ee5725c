"""Keeps the moves of a source's refs, or of a namespace's images, as webhooks reported them. Pure.

The history is stored in one Airflow Variable per source or namespace, within bounds, and read by
`delivery_chain.core.events.dedupe`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from pydantic import AwareDatetime, ValidationError

from delivery_chain.core.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_REFS = 100
"""Number of refs per source whose history is kept: at most some 200 kB in Airflow's database, written at each push."""
MOST_TEXT = 256 * 1024
"""Maximum total size in characters; a third more if Airflow encrypts it. Bounded, as names and ids are untrusted."""
CLOCKS = timedelta(seconds=5)
"""Tolerated skew between the clocks of the triggerer, the workers and the API server."""


def utc(text: str) -> datetime:
    """Parse an ISO 8601 time; one without a zone, as a person may write it, is UTC.

    Raises:
        ValueError: The text is not a time.
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
    """When it was last reported doubtfully: by a report that may have been of another push with the same move."""
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
        """Convert to text for the Variable; beyond `MOST_TEXT`, the least recently reported refs are evicted."""
        told = self
        while len(text := told.model_dump_json(exclude_defaults=True)) > MOST_TEXT and told.refs:
            kept = sorted(told.refs, key=lambda name: told.refs[name][-1].at)[len(told.refs) // 4 + 1 :]
            told = Told(refs={name: told.refs[name] for name in kept})
        return text

    def with_history(self, ref: str, history: History) -> Told:
        """Return a copy with a ref's history; beyond `MOST_REFS`, the least recently reported refs are evicted."""
        refs = {**{name: old for name, old in self.refs.items() if name != ref}, ref: history}
        if len(refs) > MOST_REFS:
            kept = sorted(refs, key=lambda name: refs[name][-1].at)[-MOST_REFS:]
            refs = {name: refs[name] for name in kept}
        return Told(refs=refs)

    def between(self, seen: Mapping[str, str], *, since: datetime, looked: datetime) -> dict[str, str]:
        """Refs that webhooks reported elsewhere between two polls, both of which saw them at the same commit.

        Args:
            seen: Refs that both polls saw, with the commit or digest.
            since: Start of the first poll.
            looked: Start of the second poll.

        Returns:
            A mapping of the ref's name to the reported commit or digest.
        """
        found: dict[str, str] = {}
        for ref, history in self.refs.items():
            here = seen.get(ref)
            for one in history if here else ():
                # A doubtful report of a move away from here may have been a new push, and the ref have come back since.
                reports = [one.at, one.again] if one.again and one.before == here else [one.at]
                if one.commit != here and any(since < time + CLOCKS <= looked for time in reports):
                    found[ref] = one.commit
        return found
