"""An endpoint for a registry's notifications, which keeps what it was sent."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass
class Endpoint:
    """What came."""

    port: int = 0
    refuse: int = 0
    """How many requests are still to be answered by 503."""
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    """Headers, their names in lower case, and body of each request."""
    news: threading.Condition = field(default_factory=threading.Condition)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def wait(self, enough: Callable[[list[tuple[dict[str, str], bytes]]], bool]) -> None:
        """Wait until what was received is enough.

        Raises:
            AssertionError: It is not within 20 seconds.
        """
        with self.news:
            assert self.news.wait_for(lambda: enough(self.received), 20), self.received


@contextmanager
def endpoint() -> Iterator[Endpoint]:
    """Listen on a free port of 127.0.0.1 until the block ends."""
    found = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            with found.news:
                found.received.append(({name.lower(): value for name, value in self.headers.items()}, body))
                status = 503 if found.refuse else 200
                found.refuse = max(0, found.refuse - 1)
                found.news.notify_all()
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


def notifying(url: str, secret: str) -> dict[str, object]:
    """A registry's section `notifications`: each event to `url`, with a login, and with what manifests refer to."""
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
