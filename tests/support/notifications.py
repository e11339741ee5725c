"""An endpoint for a registry's notifications, which stores what it receives."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from support.http_server import Handler, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass
class Endpoint:
    """The notifications received."""

    port: int = 0
    refuse: int = 0
    """Number of requests still to be answered with 503."""
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    """Headers, with names in lower case, and body of each request."""
    news: threading.Condition = field(default_factory=threading.Condition)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def wait(self, enough: Callable[[list[tuple[dict[str, str], bytes]]], bool]) -> None:
        """Wait until the received notifications satisfy a condition.

        Raises:
            AssertionError: They do not within 20 seconds.
        """
        with self.news:
            assert self.news.wait_for(lambda: enough(self.received), 20), self.received


@contextmanager
def endpoint() -> Iterator[Endpoint]:
    """Listen on a free port of 127.0.0.1 until the block ends."""
    found = Endpoint()

    class Receiving(Handler):
        def answer(self) -> None:
            body = self.body()
            with found.news:
                found.received.append(({name.lower(): value for name, value in self.headers.items()}, body))
                status = 503 if found.refuse else 200
                found.refuse = max(0, found.refuse - 1)
                found.news.notify_all()
            self.reply(status, {})

    with serving(Receiving) as found.port:
        yield found


def notifying(url: str, secret: str) -> dict[str, object]:
    """A registry's `notifications` section: sends each event to `url`, with a login and the manifests' references."""
    return {
        "events": {"includereferences": True},
        "endpoints": [
            {
                "name": "chain",
                "url": url,
                "headers": {"Authorization": [f"Bearer {secret}"]},
                "timeout": "5s",
                "threshold": 100,
                "backoff": "50ms",
            }
        ],
    }
