"""Receives webhooks and stores them, so that the demo can show what was delivered.

Runs as a process of its own: `python -m delivery_chain.sandbox.receiver --port 8090 --file deliveries.jsonl`.
It listens on 127.0.0.1 only and verifies no signature; `read_deliveries` returns the exact body for that.

    POST or GET /hooks/...   stored; responds 200 {"received": true}
    GET /deliveries          {"deliveries": [...]}, the newest 200, oldest first
    GET /health              {"status": "ok"}
"""

from __future__ import annotations

import argparse
import json
import threading
from collections import deque
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

MAX_BODY_BYTES = 1 << 20
IDLE_SECONDS = 10.0
"""Idle timeout of a sender's connection."""
SHOWN = 200


class Receiver(ThreadingHTTPServer):
    """An HTTP server that appends each delivery to `file`, one JSON object per line."""

    daemon_threads = True

    def __init__(self, port: int, file: Path) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.file = file
        self._lock = threading.Lock()

    def keep(self, delivery: dict[str, Any]) -> None:
        """Append one delivery."""
        line = json.dumps(delivery, ensure_ascii=False)
        with self._lock, self.file.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


class _Handler(BaseHTTPRequestHandler):
    server: Receiver
    timeout = IDLE_SECONDS
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/health":
            self._answer(200, {"status": "ok"})
        elif path == "/deliveries":
            self._answer(200, {"deliveries": read_deliveries(self.server.file)})
        else:
            self._receive()

    def do_POST(self) -> None:
        self._receive()

    def _receive(self) -> None:
        if not self.path.startswith("/hooks/"):
            self._refuse(404, "expected a path below /hooks/")
            return
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal():
            self._refuse(411, "expected a Content-Length")
            return
        if int(length) > MAX_BODY_BYTES:
            self._refuse(413, f"expected at most {MAX_BODY_BYTES} bytes")
            return
        body = self.rfile.read(int(length))
        self.server.keep(
            {
                "received": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "method": self.command,
                "path": self.path,
                "headers": {name.lower(): value for name, value in self.headers.items()},
                "body": body.decode("utf-8", "replace"),
            }
        )
        self._answer(200, {"received": True})

    def _refuse(self, status: int, message: str) -> None:
        # The rest of the request is unread, so the connection can't be reused.
        self.close_connection = True
        self._answer(status, {"error": message})

    def _answer(self, status: int, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


def read_deliveries(file: Path) -> list[dict[str, Any]]:
    """The newest deliveries of a file, oldest first; empty if none has arrived.

    Each has `received` (UTC), `method`, `path`, `headers` (names in lower case) and `body` (text).
    """
    try:
        with file.open(encoding="utf-8") as lines:
            return [json.loads(line) for line in deque(lines, maxlen=SHOWN)]
    except FileNotFoundError:
        return []


def main() -> None:
    """Serve until the process is stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--file", type=Path, required=True)
    given = parser.parse_args()
    with Receiver(given.port, given.file) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
