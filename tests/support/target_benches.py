"""A bench for each kind of target: the real port with a real server that behaves as a test scripts it.

The contract of targets runs on each bench. A new kind needs a row in `BENCHES`.
"""

from __future__ import annotations

import base64
from contextlib import contextmanager
from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

from delivery_chain.core.connection_fields import ConnectionFields
from delivery_chain.targets.webhook import WebhookTarget
from support.webhook_target import OK, answer, drip, webhook_target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from delivery_chain.targets.interface import Target
    from support.webhook_target import Target as Server

SECRET = "whsec_" + base64.b64encode(b"k" * 24).decode()
TOKEN = "hunter2 token"


class Says(Enum):
    """Responses of the server to an order."""

    YES = auto()
    NO = auto()
    NO_WITH_SECRETS = auto()
    """A refusal that repeats all secrets received."""
    BUSY = auto()
    BUSY_FOR_7_S = auto()
    FAILED = auto()
    ELSEWHERE = auto()
    """A redirect to another server."""
    DRIPPING = auto()
    """Success, with a body that never ends."""
    NOTHING = auto()
    """The connection breaks without a response."""


class Bench(Protocol):
    """A target and the server behind it."""

    target: Target
    secrets: tuple[str, ...]
    """Secrets that may not be shown."""

    def will(self, *says: Says) -> None:
        """Script the responses to the next orders; then `YES`."""

    def ids(self) -> list[str]:
        """Ids of the orders as they arrived."""

    def led_astray(self) -> int:
        """Number of requests that arrived at the other server."""


class WebhookBench:
    """A webhook with a secret in its query and one for signing."""

    def __init__(self, server: Server, other: Server) -> None:
        self.secrets = (TOKEN, quote(TOKEN), SECRET, SECRET.removeprefix("whsec_"))
        self.target = WebhookTarget.of(
            ConnectionFields(
                conn_id="prod_hook",
                conn_type="delivery_webhook",
                host=server.url,
                login="",
                password=SECRET,
                port=None,
                extra={"secret_query": f"token={quote(TOKEN)}", "timeout_seconds": 1},
                mask=lambda _: None,
            )
        )
        self._server, self._other = server, other
        self._answers = {
            Says.YES: OK,
            Says.NO: answer(404, b"nothing here"),
            Says.NO_WITH_SECRETS: answer(401, "\n".join(self.secrets).encode()),
            Says.BUSY: answer(429),
            Says.BUSY_FOR_7_S: answer(503, Retry_After="7"),
            Says.FAILED: answer(500),
            Says.ELSEWHERE: answer(307, Location=other.url),
            Says.DRIPPING: drip(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"."),
            Says.NOTHING: b"",
        }

    def will(self, *says: Says) -> None:
        self._server.replies = [self._answers[one] for one in says]

    def ids(self) -> list[str]:
        return [got.headers["webhook-id"] for got in self._server.got]

    def led_astray(self) -> int:
        return len(self._other.got)


@contextmanager
def webhook_bench() -> Iterator[WebhookBench]:
    """Run the bench on free ports of 127.0.0.1 until the block ends."""
    with webhook_target() as server, webhook_target() as other:
        yield WebhookBench(server, other)


BENCHES: dict[str, Callable[[], AbstractContextManager[Bench]]] = {"webhook": webhook_bench}
"""Benches by the name in the table of targets."""
