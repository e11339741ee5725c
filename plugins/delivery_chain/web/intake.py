"""From a delivery to runs, in one transaction: either all of it is in Airflow's database, or nothing is.

Deliveries about one source are judged one after the other, whichever server process takes them: see `Record`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from delivery_chain.airflow_db.event_log import record as log_entries
from delivery_chain.airflow_db.ref_history import Record
from delivery_chain.airflow_db.runs import Known, Runs, built_here
from delivery_chain.airflow_db.session import transaction
from delivery_chain.core.events.dedupe import AGAIN, Judgement, Move, judge
from delivery_chain.core.events.event import WEBHOOK
from delivery_chain.core.events.ledger import DELETED, OURS, SENSOR, Entry, Outcome
from delivery_chain.core.events.routing import NO_CHAIN, NO_RULE, Start, image_starts, source_starts
from delivery_chain.core.events.watch_dags import images_dag_id
from delivery_chain.core.times import not_after
from delivery_chain.errors import DeliveryChainError, WebhookRefused
from delivery_chain.hooks.registry import TEST_TIMEOUT, OciRegistryHook
from delivery_chain.web.limits import AGAIN_SOON
from delivery_chain.web.tag_objects import peel

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from delivery_chain.core.events.delivery import Delivery, ImagePush, RefPush
    from delivery_chain.hooks.webhook_sender import WebhookSender
    from delivery_chain.web.index import Chains, Watched

log = logging.getLogger(__name__)
MOST_RUNS = 100
"""Runs of one delivery, for its sender does not wait long. The sensor starts the rest."""
GONE = "the registry has no such tag any more, or can't be asked for it"
UNPEELED = "an annotated tag that can't be asked for its commit now; the sensor finds it"
LEFT = f"more than {MOST_RUNS} runs in one delivery: the sensor starts the rest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """One delivery on its way into Airflow."""

    sender: WebhookSender
    delivery: Delivery
    chains: Chains
    now: datetime

    def take(self) -> list[Entry]:
        """Make the runs and the ledger's entries; returned are the latter.

        Raises:
            WebhookRefused: 503: a registry does not say what a tag points at.
            SQLAlchemyError: Nothing was written. The sender should try again.
        """
        images = self._with_digests()
        pushes = self._peeled()
        with transaction() as session:
            runs = Runs(session, by=self._by, facts=self._facts())
            return [*self._pushes(session, runs, pushes), *self._images(session, runs, images)]

    @property
    def _by(self) -> str:
        return f"{WEBHOOK}{self.sender.conn_id}"[:200]

    def _facts(self) -> dict[str, Any]:
        return {
            "actor": self.delivery.actor,
            "sender": self._by,
            "delivery_id": self.delivery.delivery_id,
            "pushed_at": self._said,
        }

    @property
    def _said(self) -> datetime | None:
        """When the push was by the sender's clock, where it says so."""
        said = self.delivery.pushed_at
        return not_after(said, self.now) if said else None

    def _found(self) -> tuple[Watched, ...]:
        return self.chains.at(self.sender.speaks_for, self.delivery.places) if self.delivery.pushes else ()

    def _peeled(self) -> tuple[RefPush, ...]:
        """The pushes by their commits: of annotated tags some senders name just the tag object."""
        pushes, found = self.delivery.pushes, self._found()
        if not found or all(push.peeled for push in pushes):
            return pushes
        return peel(found[0].source, pushes)

    def _pushes(self, session: Session, runs: Runs, pushes: tuple[RefPush, ...]) -> list[Entry]:
        found = self._found()
        if pushes and not found:
            place = self.delivery.places[0] if self.delivery.places else "this repository"
            why = f"no chain builds {place[:200]} from a source of {', '.join(self.sender.speaks_for)}"
            entries = [self._entry(push.ref, push.after, push.before, why=why) for push in pushes]
            log_entries(session, None, entries)
            return entries
        # In the order of their ids, so that two deliveries never wait for each other's locks.
        return [entry for source in found for entry in self._source(session, runs, source, pushes)]

    def _source(
        self, session: Session, runs: Runs, source: Watched, pushes: tuple[RefPush, ...]
    ) -> list[Entry]:
        record = Record(session, source.dag_id)
        entries = [self._push(record, runs, source, push) for push in pushes]
        record.write()
        log_entries(session, source.dag_id, entries)
        return entries

    def _push(self, record: Record, runs: Runs, source: Watched, push: RefPush) -> Entry:
        # Of a deleted ref it is asked what its last commit would have started: nothing else knows of it.
        commit = push.after or push.before or "0" * 40
        starts = source_starts(source.for_ref(push.ref), ref=push.ref, commit=commit, previous=push.before)
        if not starts:
            return self._entry(push.ref, push.after, push.before, why=NO_RULE)
        if not push.peeled:
            return self._entry(push.ref, push.after, push.before, why=UNPEELED)
        starts = starts if push.after else ()
        return self._change(record, runs, push.ref, push.before, push.after, starts)

    def _images(self, session: Session, runs: Runs, images: Sequence[ImagePush]) -> list[Entry]:
        entries: list[Entry] = []
        by_place: dict[tuple[str, str], list[tuple[ImagePush, Start]]] = {}
        for image in images:
            found = self._image_starts(image)
            if isinstance(found, str) or not image.digest:
                why = found if isinstance(found, str) else GONE
                entries.append(self._entry(_ref(image), image.digest, None, why=why))
                continue
            instance, start = found
            watch = images_dag_id(instance, start.namespace)
            # Nobody watches for images that a chain builds: Airflow shows no log of a Dag that is not there.
            shown = start.chain if self.chains.specs[start.chain].build_rules else watch
            by_place.setdefault((watch, shown), []).append((image, start))
        log_entries(session, None, entries)
        for watch, shown in sorted(by_place):
            taken = self._namespace(session, runs, watch, by_place[watch, shown])
            log_entries(session, shown, taken)
            entries += taken
        return entries

    def _namespace(
        self, session: Session, runs: Runs, dag_id: str, images: Iterable[tuple[ImagePush, Start]]
    ) -> list[Entry]:
        record = Record(session, dag_id)
        entries = [
            self._entry(_ref(image), image.digest, None, why=OURS)
            if built_here(session, start.chain, image, self.chains.specs[start.chain].scope.instance)
            else self._change(record, runs, _ref(image), None, image.digest, (start,))
            for image, start in images
        ]
        record.write()
        return entries

    def _image_starts(self, image: ImagePush) -> tuple[str, Start] | str:
        why = NO_CHAIN
        for instance in self.sender.speaks_for:
            found = image_starts(
                list(self.chains.specs.values()),
                instance=instance,
                name=image.name,
                tag=image.tag,
                digest=image.digest,
            )
            if not isinstance(found, str):
                return instance, found[0]
            why = found
        return why

    def _with_digests(self) -> list[ImagePush]:
        """Ask the registry, where the sender does not tell: without a digest nobody knows which push it is."""
        images = list(self.delivery.images)
        # Of more than may start, the sensor finds the rest.
        for position, image in enumerate(images[:MOST_RUNS]):
            if not image.digest and not isinstance(found := self._image_starts(image), str):
                images[position] = _asked(found[0], image)
        return images

    def _change(
        self, record: Record, runs: Runs, ref: str, before: str | None, after: str, starts: tuple[Start, ...]
    ) -> Entry:
        if runs.made + len(starts) > MOST_RUNS and runs.made:
            return self._entry(ref, after, before, why=LEFT)
        there = [runs.there(start) for start in starts]
        judged = self._judge(
            record, ref, before, after, [run for one in there for run in one.values() if run.ours]
        )
        missing = [not any(run.ours for run in one.values()) for one in there]
        if any(missing) and not judged.fresh:
            # Deleted since: if they were on their way, nothing else knows of the push.
            judged = self._judge(record, ref, before, after, (), gone=True)
        elif judged.fresh:
            missing = [True] * len(starts)
        outcomes = [
            runs.start(start, one, judged) if needed else runs.find(start, one)
            for start, one, needed in zip(starts, there, missing, strict=True)
        ]
        # What could not be started is not known either: the next word of it counts.
        if all(outcome.run_id for outcome in outcomes):
            record.remember(ref, judged.history)
        return self._entry(ref, after, before, outcomes, judged.why if after or not judged.fresh else DELETED)

    def _judge(
        self,
        record: Record,
        ref: str,
        before: str | None,
        after: str,
        there: Sequence[Known],
        *,
        gone: bool = False,
    ) -> Judgement:
        delivery_id = self.delivery.delivery_id
        if delivery_id and any((run.sender, run.delivery_id) == (self._by, delivery_id) for run in there):
            return Judgement(history=record.history(ref), fresh=False, why=AGAIN)
        move = Move(
            before=before,
            after=after,
            teller=f"{self.sender.conn_id}/{self.delivery.hook}",
            delivery_id=delivery_id,
            now=self.now,
            pushed_at=self._said,
        )
        sensed = max((run.seen_at for run in there if run.sender == SENSOR), default=None)
        return judge(record.history(ref), move, record.watched(ref), sensed, gone=gone)

    def _entry(
        self, ref: str, commit: str, before: str | None, outcomes: Iterable[Outcome] = (), why: str = ""
    ) -> Entry:
        return Entry(
            ref=ref,
            commit=commit,
            before=before,
            at=self.now,
            by=self._by,
            delivery_id=self.delivery.delivery_id,
            actor=self.delivery.actor,
            outcomes=tuple(outcomes),
            why=why,
        )


def _asked(instance: str, image: ImagePush) -> ImagePush:
    try:
        with OciRegistryHook(instance).client(timeout=TEST_TIMEOUT) as client:
            manifest = client.head_manifest(image.name, image.tag)
    except DeliveryChainError as error:
        why = f"what {_ref(image)} points at can't be asked: {error}"
        if error.retryable:
            raise WebhookRefused(503, why, retry_after=AGAIN_SOON) from error
        # The same again would get the same answer; a registry would send it for ever.
        log.warning("%s", why)
        return image
    return image.model_copy(update={"digest": manifest.digest}) if manifest else image


def _ref(image: ImagePush) -> str:
    return f"{image.name}:{image.tag}" if image.tag else f"{image.name}@{image.digest}"
