"""The ledger: every change of a ref that was seen, by whom, and the runs that it made or why it made none. Pure."""

from __future__ import annotations

from datetime import datetime

from delivery_chain.core.value import Value


class Outcome(Value):
    """What one chain made of a change."""

    chain: str
    rule: str = ""
    run_id: str = ""
    """Empty where there is no run."""
    made: bool = False
    """Whether this sight of the change made the run; otherwise it was there already."""
    why: str = ""
    """Why there is no run, or what holds it up."""

    @property
    def sentence(self) -> str:
        """`shop-api (release): run tag__v1.0.0__…`."""
        who = f"{self.chain} ({self.rule})" if self.rule else self.chain
        if not self.run_id:
            return f"{who}: no run, {self.why}"
        also = f", {self.why}" if self.why else ""
        return f"{who}: {'' if self.made else 'already '}run {self.run_id}{also}"


class Entry(Value):
    """One change of one ref, or of one image tag, as one of us saw it."""

    ref: str
    """Full git ref, or `repository:tag`."""
    commit: str
    """Commit, or digest; empty for a ref that was deleted."""
    before: str | None = None
    """Empty for nothing, None where that is not known."""
    at: datetime
    """When it was seen."""
    by: str
    """`sensor`, or `webhook` and the connection's id."""
    delivery_id: str = ""
    actor: str = ""
    outcomes: tuple[Outcome, ...] = ()
    why: str = ""
    """What is to say about the change as a whole: why no chain takes it, or that it was known."""

    @property
    def sentence(self) -> str:
        """One line."""
        where = f"is at {self.commit[:19]}" if self.commit else "was deleted"
        runs = "; ".join(outcome.sentence for outcome in self.outcomes)
        parts = [part for part in (runs, self.why) if part]
        return f"{self.ref} {where}: {', '.join(parts) or 'no run'}"
