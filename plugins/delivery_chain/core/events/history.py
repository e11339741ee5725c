"""Moves of a source's refs, or of a namespace's images, as webhooks reported them. Pure.

It is remembered in an Airflow Variable per source, within bounds. Its use is in `delivery_chain.core.events.dedupe`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from pydantic import AwareDatetime, ValidationError

from delivery_chain.core.value import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_REFS = 100
"""Refs of one source whose history is kept: at most some 200 kB in Airflow's database, which each push writes."""
MOST_TEXT = 256 * 1024
"""Characters of it all: a third more where Airflow encrypts it. Names and ids come from outside."""
CLOCKS = timedelta(seconds=5)
"""How far the clocks of the triggerer, of workers and of the API server may be apart."""


def utc(text: str) -> datetime:
    """An ISO 8601 time; one without a zone, as a person may write it, is UTC.

    Raises:
        ValueError: It is none.
    """
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


class Sighting(Value):
    """A ref came to a commit, by the word of a webhook or the sensor."""

    commit: str
    """Commit, or an image's digest; empty for a ref that was deleted."""
    before: str | None
    """Where it was; empty for nowhere, None where that was not said."""
    at: AwareDatetime
    """When we heard of it; of one that came late, when it must have been."""
    said: AwareDatetime | None = None
    """When it was by the sender's clock, where it says so."""
    again: AwareDatetime | None = None
    """When it was last reported in doubt: that may have been another push of the same move."""
    told: tuple[tuple[str, str], ...] = ()
    """The webhooks that reported it, each with its delivery id."""


History = tuple[Sighting, ...]
"""The last sightings of one ref, the newest last."""


class Told(Value):
    """All that webhooks reported of one source's refs, or of one namespace's images; in an Airflow Variable."""

    refs: dict[str, History] = {}

    @classmethod
    def read(cls, text: str | None) -> Told:
        """What is in the Variable; nothing where there is none, or where somebody made it unreadable by hand.

        What is forgotten costs at most a run too many: ids that are taken stay taken, and the sensor loses no push.
        """
        try:
            return cls.model_validate_json(text or "{}")
        except ValidationError:
            return cls()

    def to_text(self) -> str:
        """For the Variable; of more than fits, the refs are evicted that no webhook named for longest."""
        told = self
        while len(text := told.model_dump_json(exclude_defaults=True)) > MOST_TEXT and told.refs:
            kept = sorted(told.refs, key=lambda name: told.refs[name][-1].at)[len(told.refs) // 4 + 1 :]
            told = Told(refs={name: told.refs[name] for name in kept})
        return text

    def with_history(self, ref: str, history: History) -> Told:
        """Remember; beyond `MOST_REFS` the refs are evicted that no webhook named for longest."""
        refs = {**{name: old for name, old in self.refs.items() if name != ref}, ref: history}
        if len(refs) > MOST_REFS:
            kept = sorted(refs, key=lambda name: refs[name][-1].at)[-MOST_REFS:]
            refs = {name: refs[name] for name in kept}
        return Told(refs=refs)

    def between(self, seen: Mapping[str, str], *, since: datetime, looked: datetime) -> dict[str, str]:
        """Refs that were reported elsewhere between two looks that saw them unmoved: name to that commit or digest.

        Args:
            seen: What both looks saw.
            since: When the first began.
            looked: When the second began.
        """
        found: dict[str, str] = {}
        for ref, history in self.refs.items():
            here = seen.get(ref)
            for one in history if here else ():
                if since < one.at + CLOCKS <= looked and one.commit != here:
                    found[ref] = one.commit
        return found
