"""A small HTTP server in this process: one method answers every request, and the server ends with the block."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Handler(BaseHTTPRequestHandler):
    """Calls `answer` for every request. A client that disconnects ends only its own connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def answer(self) -> None:
        """Respond to the request, usually with `reply`."""
        raise NotImplementedError

    def body(self) -> bytes:
        """The request's whole body; shorter than announced if the client disconnected."""
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def reply(
        self, status: int, headers: Mapping[str, str], body: bytes = b"", *, cut: int | None = None
    ) -> None:
        """Send a response.

        Args:
            status: HTTP status.
            headers: Added to, or replacing, the `Content-Length` of `body`.
            body: Omitted in a response to HEAD.
            cut: Bytes of the body after which the connection is closed; None sends all.
        """
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
            self.close_connection = self.close_connection or cut is not None

    def handle_one_request(self) -> None:
        """Handle one request, or the client's disconnect."""
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def log_message(self, *args: object) -> None:
        """Log nothing."""

    def __getattr__(self, name: str) -> object:
        """Provide `answer` as `do_GET`, `do_PUT` and so on, which the base class looks up."""
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)


@contextmanager
def serving(handler: type[Handler], port: int = 0) -> Iterator[int]:
    """Serve on 127.0.0.1 until the block ends.

    Args:
        handler: Responds to the requests.
        port: 0 for a free one.

    Yields:
        The port.
    """
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()
