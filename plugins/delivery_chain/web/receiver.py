"""Receives webhooks: our only endpoint without a login, authenticated by a secret instead.

    POST /delivery-chain/webhooks/{connection}

The connection, of type webhook_sender, defines the kind of sender, its secret, and the sources and registries that it
may report for. No payload is parsed before its proof is verified; no 2xx is sent before the runs are made.
"""

from __future__ import annotations

import logging
import math
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
from anyio import sleep
from anyio.to_thread import run_sync
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from sqlalchemy.exc import SQLAlchemyError

from delivery_chain.core.events.ledger import Entry
from delivery_chain.errors import Unproven, WebhookRefused
from delivery_chain.hooks.webhook_sender import WebhookSender
from delivery_chain.senders.base import Request as Received
from delivery_chain.senders.base import parse, verify
from delivery_chain.senders.table import SENDERS
from delivery_chain.web import IN_ADDRESS
from delivery_chain.web.index import Index
from delivery_chain.web.intake import take
from delivery_chain.web.limits import AGAIN_SOON, Bodies, Rate, Strangers, check_length
from delivery_chain.web.sender_cache import NoSender, SenderCache

if TYPE_CHECKING:
    from collections.abc import Callable

    from delivery_chain.core.events.notification import Notification

WORKERS = 4
"""Notifications written concurrently: Airflow's own pages need the database, too."""
MOST_WAITING = 200
LARGE = 256 * 1024
"""Bytes above which a body is verified and parsed outside the event loop."""
LARGEST = max(kind.largest for kind in SENDERS.values())
"""Limit of every body in bytes. The smaller limits of most senders apply after the proof: they reveal the kind."""
ANSWER_SECONDS = 0.1
"""Shortest time to a 401, which hides whether a connection was looked up or a signature compared."""
T = TypeVar("T")
log = logging.getLogger(__name__)


class Answer(BaseModel):
    """The result of a notification."""

    model_config = ConfigDict(extra="forbid")

    delivery: str
    """The sender's delivery id."""
    event: str
    ignored: str = ""
    """Reason for ignoring the event."""
    changes: list[Entry] = []
    """Every ref or image in the notification, with the runs that it made or the reason why it made none."""


class Refusal(BaseModel):
    """The reason why a notification was refused."""

    detail: str


class Receiver:
    """The state of one server process."""

    def __init__(self) -> None:
        self.index = Index()
        self.rate = Rate()
        self.strangers = Strangers()
        self.bodies = Bodies()
        self.workers = anyio.CapacityLimiter(WORKERS)
        self.waiting = 0
        self.senders = SenderCache(self.workers)

    async def take(self, connection: str, request: Request) -> Answer:
        """Answer one request.

        Raises:
            WebhookRefused: The request is refused.
        """
        check_length(request.headers, LARGEST)
        began = monotonic()
        late = self.strangers.enter()
        try:
            sender, notification = await self._proven(connection, request, counted=late is None)
        except Unproven as refused:
            await sleep(max(0.0, began + ANSWER_SECONDS - monotonic()))
            if late is None:
                raise
            for note in getattr(refused, "__notes__", ()):
                late.add_note(note)
            raise late from None
        self.rate.take(connection, sender.per_minute)
        answer = Answer(
            delivery=notification.delivery_id, event=notification.event, ignored=notification.ignored
        )
        if not notification.ignored:
            answer.changes = await self.write(sender, notification)
        return answer

    async def _proven(
        self, connection: str, request: Request, *, counted: bool
    ) -> tuple[WebhookSender, Notification]:
        """Authenticate a request and parse it.

        Up to the proof, requests for connections that exist and for others take the same steps, with the same limits:
        no response reveals which ids exist.

        Args:
            connection: The id that the request names.
            request: The request, unread.
            counted: Whether it counts among the requests without proof, and so may cause a lookup.

        Raises:
            WebhookRefused: The request is refused.
        """
        try:
            found = await self.senders.find(connection, search=counted)
        except SQLAlchemyError as error:
            raise _database_failed(error) from error
        known = isinstance(found, WebhookSender)
        async with self.bodies.read(request, LARGEST, name=connection, keep=known) as body:
            if isinstance(found, NoSender):
                raise Unproven(found.why)
            if body is None:
                raise Unproven("dropped: too many large requests at once")
            kind = SENDERS[found.kind]
            received = Received(request.headers, body, request.scope.get(IN_ADDRESS, ""))
            await _run(partial(verify, kind, received, found.secrets, datetime.now(UTC)), body)
            if counted:
                self.strangers.leave()
            self.senders.keep(found)
            return found, await _run(partial(parse, kind, received), body)

    async def write(self, sender: WebhookSender, notification: Notification) -> list[Entry]:
        """Make the runs, outside the event loop."""
        if self.waiting >= MOST_WAITING:
            raise WebhookRefused(503, "too many deliveries are waiting", retry_after=AGAIN_SOON)
        self.waiting += 1
        try:
            return await run_sync(partial(self._write, sender, notification), limiter=self.workers)
        except SQLAlchemyError as error:
            raise _database_failed(error) from error
        finally:
            self.waiting -= 1

    def _write(self, sender: WebhookSender, notification: Notification) -> list[Entry]:
        chains = self.index.chains()
        return take(sender=sender, notification=notification, chains=chains, now=datetime.now(UTC))


async def _run(work: Callable[[], T], body: bytes) -> T:
    return await run_sync(work) if len(body) > LARGE else work()


def _database_failed(error: SQLAlchemyError) -> WebhookRefused:
    refused = WebhookRefused(503, "Airflow's database did not take it", retry_after=AGAIN_SOON)
    # Only the first line of the driver's message: the rest, and SQLAlchemy's text, contain the notification's values.
    first = str(getattr(error, "orig", None) or "").partition("\n")[0]
    refused.add_note(f"{type(error).__name__}: {first[:300]}")
    return refused


def make_app() -> FastAPI:
    """Create the application, with one receiver per server process."""
    app = FastAPI(title="Webhooks of delivery chains", docs_url=None, redoc_url=None, openapi_url=None)
    receiver = Receiver()
    refusals: Any = {status: {"model": Refusal} for status in (400, 401, 408, 413, 429, 503)}

    @app.post("/{connection}", responses=refusals)
    async def deliver(connection: str, request: Request) -> Answer:
        """Receive one webhook; the format of body and proof depends on the sender."""
        return await receiver.take(connection, request)

    @app.exception_handler(WebhookRefused)
    async def refused(request: Request, error: WebhookRefused) -> JSONResponse:
        name = request.path_params.get("connection", "")
        why = "; ".join((str(error), *getattr(error, "__notes__", ())))
        log.warning("Webhook %r refused with %d: %s", name[:200], error.status, " ".join(why.split()))
        wait = {"Retry-After": str(math.ceil(error.retry_after))} if error.retry_after else {}
        return JSONResponse({"detail": str(error)}, error.status, headers=wait)

    return app
