"""A registry that says what a test tells it to: refusals, lies, and connections that break."""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from delivery_chain.core.names.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    """With the query."""
    authorization: str
    body: bytes
    """Shorter than announced where the client gave up."""


@dataclass(slots=True)
class Answer:
    """What to say to requests that fit."""

    method: str
    path: str
    """Regular expression for the whole path with its query."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: int | None = None
    """Bytes of the body after which the connection is closed."""
    times: int = 1_000_000
    """How often; after that the next answer that fits has its turn."""


@dataclass(slots=True)
class Script:
    """The running registry."""

    registry: Registry
    answers: list[Answer] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)

    def say(self, method: str, path: str, status: int = 200, **rest: Any) -> None:
        """Answer requests of `method` whose whole path matches `path`."""
        self.answers.append(Answer(method, path, status, **rest))

    def say_blob(self, name: str, digest: str, content: bytes, **rest: Any) -> None:
        """Hold a blob: GET and HEAD."""
        self.say("(GET|HEAD)", f"/v2/{name}/blobs/{digest}", body=content, **rest)

    def say_manifest(self, name: str, ref: str, raw: bytes, media_type: str, **headers: str) -> None:
        """Hold a manifest: GET and HEAD."""
        self.say(
            "(GET|HEAD)",
            f"/v2/{name}/manifests/{ref}",
            headers={"Content-Type": media_type, **headers},
            body=raw,
        )

    def paths(self, method: str) -> list[str]:
        """The paths that were asked for with `method`, in order."""
        return [one.path for one in self.seen if one.method == method]


@contextmanager
def scripted_registry(**registry: Any) -> Iterator[Script]:
    """Run a scripted registry on a free port until the block ends; what fits no answer is a 404.

    Args:
        registry: More fields of its `Registry`, such as the login.
    """
    script: Script

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            """Stay quiet."""

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except ConnectionError:
                self.close_connection = True

        def answer(self) -> None:
            size = int(self.headers.get("Content-Length", "0"))
            body = self.rfile.read(size)
            login = self.headers.get("Authorization", "")
            with lock:
                script.seen.append(Seen(self.command, self.path, login, body))
                found = next((a for a in script.answers if a.times and fits(a, self)), Answer("", "", 404))
                found.times -= 1
            if len(body) < size:
                self.close_connection = True
                return
            self.send_response(found.status)
            for key, value in {"Content-Length": str(len(found.body)), **found.headers}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(found.body[: found.cut])
                self.close_connection = self.close_connection or found.cut is not None

    def fits(one: Answer, request: BaseHTTPRequestHandler) -> bool:
        return bool(re.fullmatch(one.method, request.command) and re.fullmatch(one.path, request.path))

    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.answer)
    lock = threading.Lock()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    script = Script(Registry(host=f"127.0.0.1:{server.server_port}", plain_http=True, **registry))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
