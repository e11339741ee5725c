"""Turns a notification into runs in one transaction: either all of it takes effect, or nothing.

Notifications about one source are serialized across all server processes, see `RefHistory`.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from delivery_chain.airflow_db.event_log import log_entries
from delivery_chain.airflow_db.ref_history import RefHistory
from delivery_chain.airflow_db.runs import Runs, built_here
from delivery_chain.airflow_db.session import transaction
from delivery_chain.core.events import pipeline
from delivery_chain.core.events.dedupe import Move
from delivery_chain.core.events.event import WEBHOOK
from delivery_chain.core.events.ledger import OURS, Entry
from delivery_chain.core.events.routing import Routed, route_ref
from delivery_chain.core.times import not_after
from delivery_chain.errors import WebhookRefused
from delivery_chain.web.resolve import resolve

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from delivery_chain.core.events.event import Event
    from delivery_chain.core.events.history import History, Sighting
    from delivery_chain.core.events.ledger import StartResult
    from delivery_chain.core.events.notification import Notification
    from delivery_chain.core.events.pipeline import RunsThere
    from delivery_chain.core.events.push import Push
    from delivery_chain.core.events.routing import Start
    from delivery_chain.hooks.webhook_sender import WebhookSender
    from delivery_chain.web.index import Chains

MOST_RUNS = 100
"""Runs per notification, because its sender does not wait long. The sensor starts the rest."""
NEXT_PARSE = 30.0
"""Retry-After in seconds until Airflow has parsed its Dags again: its default `min_file_process_interval`."""
LONGEST_WHY = 2000
UNPARSED = "Airflow has no chain yet, as after `airflow db clean`: redeliver the push after the next parse"
GONE = "the registry no longer has this tag, or can't resolve it"
UNPEELED = "a tag whose commit can't be resolved now; the sensor finds it"
LEFT = f"more than {MOST_RUNS} runs in one delivery: the sensor starts the rest"


def take(*, sender: WebhookSender, notification: Notification, chains: Chains, now: datetime) -> list[Entry]:
    """Create the runs and the ledger's entries; return the entries.

    Raises:
        WebhookRefused: 503: a registry can't resolve a tag, or Airflow lacks the Dag of a chain. Retryable; runs of
            other chains may have been made.
        SQLAlchemyError: Nothing was written. The sender should retry.
    """
    if chains.unparsed:
        raise WebhookRefused(503, UNPARSED, retry_after=NEXT_PARSE)
    pushes = resolve(notification, sender.speaks_for, chains)
    with transaction() as session:
        intake = WebhookIntake(session, sender, notification, chains, now)
        entries = intake.write(pipeline.take(intake, pushes))
        if intake.refusal and not intake.made:
            # Nothing to keep: without the rollback, each redelivery would leave its entries.
            raise intake.refusal
    if intake.refusal:
        raise intake.refusal
    return entries


class WebhookIntake:
    """The webhooks' `Intake` of `delivery_chain.core.events.pipeline`, for one notification."""

    def __init__(
        self,
        session: Session,
        sender: WebhookSender,
        notification: Notification,
        chains: Chains,
        now: datetime,
    ) -> None:
        self.session = session
        self.sender = sender
        self.notification = notification
        self.chains = chains
        self.now = now
        self.by = f"{WEBHOOK}{sender.conn_id}"[:200]
        self.facts: Mapping[str, Any] = {
            "actor": notification.actor,
            "sender": self.by,
            "delivery_id": notification.delivery_id,
        }
        self.said = not_after(notification.pushed_at, now) if notification.pushed_at else None
        self._runs = Runs(session, by=self.by)
        self._histories: dict[str, RefHistory] = {}

    @property
    def made(self) -> int:
        """Number of runs made."""
        return self._runs.made

    @property
    def refusal(self) -> WebhookRefused | None:
        """The refusal that makes the sender redeliver pushes which a chain could not take; None if all could."""
        why = "; ".join(f"{chain}: {why}" for chain, why in sorted(self._runs.unready.items()))
        return WebhookRefused(503, why[:LONGEST_WHY], retry_after=NEXT_PARSE) if why else None

    def route(self, pushes: Sequence[Push]) -> list[Routed]:
        """Route git refs, then images, sorted by source or registry so that concurrent notifications never deadlock."""
        refs = [push for push in pushes if not push.is_image]
        images = [self._image(push) for push in pushes if push.is_image]
        return [*self._refs(refs), *sorted(images, key=self._shelf)]

    def _refs(self, pushes: Sequence[Push]) -> list[Routed]:
        named = self.notification.repositories
        sources = self.chains.at(self.sender.speaks_for, named) if pushes else ()
        if not sources:
            name = named[0] if named else "this repository"
            why = (
                f"no chain builds {name[:200]} from a source of {', '.join(self.sender.speaks_for)}; if its spec is "
                "new, redeliver the push after the next parse"
            )
            return [Routed(push=push, at=self.now, why=why) for push in pushes]
        found = [
            route_ref(push, source.for_ref(push.ref), place=source.dag_id, at=self.now)
            for source in sources
            for push in pushes
        ]
        return [one if one.why or one.push.peeled else replace(one, why=UNPEELED) for one in found]

    def _image(self, push: Push) -> Routed:
        found = self.chains.for_image(push, self.sender.speaks_for, self.now)
        if found.why:
            return found
        if not push.after:
            return replace(found, place="", starts=(), why=GONE)
        chain = found.starts[0].chain
        own = built_here(self.session, chain, push, self.chains.specs[chain].scope.instance)
        return replace(found, why=OURS) if own else found

    def _shelf(self, one: Routed) -> tuple[str, str]:
        """The place of a change (the Dag that watches it), and the Dag whose readers may see its entry in the ledger.

        The two differ for images of chains that build: no Dag watches for those, and Airflow shows no log of a Dag that
        does not exist, so their entries belong to the chain's Dag.
        """
        builds = one.push.is_image and one.starts and self.chains.specs[one.starts[0].chain].build_rules
        return one.place, one.starts[0].chain if builds else one.place

    def known(self, one: Routed) -> tuple[History, Sighting | None]:
        """The ref's history and last sighting. The first ref of a source or registry locks its history."""
        if one.place not in self._histories:
            self._histories[one.place] = RefHistory(self.session, one.place)
        history = self._histories[one.place]
        return history.told(one.push.ref), history.watched(one.push.ref)

    def word(self, one: Routed) -> Move:
        """The move that the sender reports, attributed to the webhook that sent it."""
        return Move(
            before=one.push.before,
            after=one.push.after,
            teller=f"{self.sender.conn_id}/{self.notification.hook}",
            delivery_id=self.notification.delivery_id,
            now=self.now,
            pushed_at=self.said,
        )

    def there(self, starts: Sequence[Start]) -> list[RunsThere]:
        """The existing runs of each start, from Airflow's database."""
        return [self._runs.there(start) for start in starts]

    def wait(self, one: Routed) -> str:
        """Postpone a push that would exceed `MOST_RUNS`, unless it is the first with runs."""
        made = self._runs.made
        return LEFT if made and made + len(one.starts) > MOST_RUNS else ""

    def make(self, one: Routed, start: Start, run_id: str, event: Event) -> StartResult | None:
        """Create the run in this transaction."""
        del one
        return self._runs.make(start, run_id, event)

    def remember(self, one: Routed, history: History) -> None:
        """Keep the history, which `write` stores in its Variable."""
        self._histories[one.place].remember(one.push.ref, history)

    def entry(self, one: Routed) -> Entry:
        """The ledger's entry of this webhook."""
        return Entry(
            ref=one.push.ref,
            commit=one.push.after,
            before=one.push.before,
            at=one.at,
            by=self.by,
            delivery_id=self.notification.delivery_id,
            actor=self.notification.actor,
            outcomes=one.outcomes,
            why=one.why,
        )

    def write(self, done: Iterable[Routed]) -> list[Entry]:
        """Write histories and ledger entries in this transaction; return the entries."""
        for history in self._histories.values():
            history.write()
        entries: list[Entry] = []
        for (_, shown), some in groupby(done, key=self._shelf):
            some_entries = pipeline.record(self, some)
            log_entries(self.session, shown or None, some_entries)
            entries += some_entries
        return entries
