"""A whole registry in this process: what it holds is a value that tests compare, and it breaks on request."""

from __future__ import annotations

import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from delivery_chain.core.names.reference import sha256_digest
from delivery_chain.core.names.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MANIFEST = re.compile(r"/v2/(?P<name>.+)/manifests/(?P<ref>[^/]+)")
_BLOB = re.compile(r"/v2/(?P<name>.+)/blobs/(?P<ref>sha256:[0-9a-f]+)")
_UPLOAD = re.compile(r"/v2/(?P<name>.+)/blobs/uploads/(?P<ref>.*)")
_TAGS = re.compile(r"/v2/(?P<name>.+)/tags/list")

Answer = tuple[int, dict[str, str], bytes]


@dataclass(slots=True)
class Turn:
    """Something that happens when a request comes."""

    method: str
    path: str
    act: Callable[[], int | None]
    after: bool
    times: int


@dataclass(slots=True, repr=False)
class MemoryRegistry:
    """The running registry."""

    registry: Registry
    tags: dict[str, str] = field(default_factory=dict)
    """`name:tag` to digest."""
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    """`name@digest` to media type and bytes."""
    blobs: dict[str, bytes] = field(default_factory=dict)
    """`name@digest` to bytes."""
    requests: list[str] = field(default_factory=list)
    """`METHOD path` of each, in order."""
    turns: list[Turn] = field(default_factory=list)
    deletes_tags: bool = True
    """Whether a tag can be deleted by its name; docker-registry 2 deletes by digest alone."""
    deletes: bool = True
    """Whether anything can be deleted; docker-registry's default is no."""
    dead_from: int | None = None
    """Requests that are still answered; after them every connection breaks, as if the worker had been killed."""
    lost_answer: bool = False
    """Whether the first request that gets no answer is carried out nevertheless."""

    def on(
        self, method: str, path: str, act: Callable[[], int | None], *, after: bool = False, times: int = 1
    ) -> None:
        """When a request fits, call `act` before (or after) it; a number it returns before is the answer's status."""
        self.turns.append(Turn(method, path, act, after, times))

    def fail(self, method: str, path: str, status: int, *, times: int = 1_000_000) -> None:
        """Answer with a status, and do nothing."""
        self.on(method, path, lambda: status, times=times)

    def writes(self) -> list[str]:
        """The requests that change something."""
        return [one for one in self.requests if not one.startswith(("GET", "HEAD"))]

    def user_tags(self, name: str) -> dict[str, str]:
        """Tags of one repository, apart from those the chain and the referrers keep for themselves."""
        own = re.compile(r"_staging-.*|sha256-.*")
        found = {
            key.rpartition(":")[2]: digest for key, digest in self.tags.items() if key.startswith(f"{name}:")
        }
        return {tag: digest for tag, digest in found.items() if not own.fullmatch(tag)}

    def handle(self, method: str, target: str, body: bytes, media_type: str) -> Answer:
        """Do what a request asks for."""
        url = urlsplit(target)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        if url.path == "/v2/":
            return 200, {}, b"{}"
        if url.path == "/v2/_catalog":
            names = sorted({key.partition("@")[0] for key in self.manifests})
            return 200, {}, json.dumps({"repositories": names}).encode()
        if found := _TAGS.fullmatch(url.path):
            return self._list(found["name"])
        if found := _MANIFEST.fullmatch(url.path):
            return self._manifest(method, found["name"], found["ref"], body, media_type)
        if found := _UPLOAD.fullmatch(url.path):
            return self._upload(method, found["name"], query, body)
        found = _BLOB.fullmatch(url.path)
        content = self.blobs.get(f"{found['name']}@{found['ref']}") if found else None
        return (404, {}, b"") if content is None else (200, {}, content)

    def _list(self, name: str) -> Answer:
        if not any(key.startswith(f"{name}@") for key in self.manifests):
            return 404, {}, b""
        tags = sorted(key.rpartition(":")[2] for key in self.tags if key.startswith(f"{name}:"))
        return 200, {}, json.dumps({"name": name, "tags": tags}).encode()

    def _manifest(self, method: str, name: str, ref: str, body: bytes, media_type: str) -> Answer:
        digest = ref if ":" in ref else self.tags.get(f"{name}:{ref}", "")
        if method == "PUT":
            digest = sha256_digest(body)
            if not self._complete(name, body):
                return 400, {}, b'{"errors": [{"code": "MANIFEST_BLOB_UNKNOWN"}]}'
            self.manifests[f"{name}@{digest}"] = (media_type, body)
            if ":" not in ref:
                self.tags[f"{name}:{ref}"] = digest
            return 201, {"Docker-Content-Digest": digest}, b""
        if method == "DELETE" and not self.deletes:
            return 405, {}, b'{"errors": [{"code": "UNSUPPORTED"}]}'
        held = self.manifests.get(f"{name}@{digest}")
        if held is None:
            return 404, {}, b""
        if method == "DELETE":
            return self._delete(name, ref, digest)
        return 200, {"Content-Type": held[0], "Docker-Content-Digest": digest}, held[1]

    def _delete(self, name: str, ref: str, digest: str) -> Answer:
        if ":" not in ref and not self.deletes_tags:
            return 400, {}, b'{"errors": [{"code": "DIGEST_INVALID"}]}'
        if ":" in ref:
            del self.manifests[f"{name}@{digest}"]
            gone = [tag for tag, to in self.tags.items() if to == digest and tag.startswith(f"{name}:")]
        else:
            gone = [f"{name}:{ref}"]
        for tag in gone:
            del self.tags[tag]
        return 202, {}, b""

    def _complete(self, name: str, body: bytes) -> bool:
        document = json.loads(body)
        parts = [document["config"], *document["layers"]] if "config" in document else []
        children = document.get("manifests", []) if "config" not in document else []
        return all(f"{name}@{part['digest']}" in self.blobs for part in parts) and all(
            f"{name}@{child['digest']}" in {**self.manifests, **self.blobs} for child in children
        )

    def _upload(self, method: str, name: str, query: dict[str, str], body: bytes) -> Answer:
        if method == "PUT":
            digest = sha256_digest(body)
            if query["digest"] != digest:
                return 400, {}, b'{"errors": [{"code": "DIGEST_INVALID"}]}'
            self.blobs[f"{name}@{digest}"] = body
            return 201, {}, b""
        if method == "DELETE":
            return 204, {}, b""
        mounted = self.blobs.get(f"{query.get('from')}@{query.get('mount')}")
        if mounted is not None:
            self.blobs[f"{name}@{query['mount']}"] = mounted
            return 201, {}, b""
        return 202, {"Location": f"/v2/{name}/blobs/uploads/one"}, b""

    def take_turns(self, method: str, path: str, *, after: bool) -> int | None:
        """Let what waits for this request happen."""
        status = None
        for turn in list(self.turns):
            if turn.after is after and re.fullmatch(turn.method, method) and re.fullmatch(turn.path, path):
                turn.times -= 1
                if not turn.times:
                    self.turns.remove(turn)
                said = turn.act()
                status = said if status is None else status
        return status


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    held: MemoryRegistry
    lock = threading.Lock()

    def decide(self, method: str, path: str, body: bytes, media_type: str) -> Answer | None:
        """The answer; None for a connection that breaks."""
        held = self.held
        with self.lock:
            alive = held.dead_from is None or held.dead_from > 0
            if held.dead_from is not None:
                held.dead_from -= 1
            if not alive and not (held.lost_answer and held.dead_from == -1):
                return None
            held.requests.append(f"{method} {path}")
        # Without the lock: what happens in between may be requests of others.
        status = held.take_turns(method, path, after=False)
        if status is not None:
            return status, {}, b""
        with self.lock:
            done = held.handle(method, path, body, media_type)
        held.take_turns(method, path, after=True)
        return done if alive else None


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *args: object) -> None:
        """Stay quiet."""

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, ValueError):
            self.close_connection = True

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        found = self.server.decide(self.command, self.path, body, self.headers.get("Content-Type", ""))
        if found is None:
            self.close_connection = True
            return
        status, headers, content = found
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


for _method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
    setattr(_Handler, f"do_{_method}", _Handler.answer)


@contextmanager
def memory_registry(**fields: Any) -> Iterator[MemoryRegistry]:
    """Run a registry on a free port until the block ends. It has no referrers API, as docker-registry 2 has none.

    Args:
        fields: More fields of its `Registry`, such as the login.
    """
    server = _Server(("127.0.0.1", 0), _Handler)
    server.lock = threading.Lock()
    server.held = held = MemoryRegistry(
        Registry(host=f"127.0.0.1:{server.server_port}", plain_http=True, **fields)
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield held
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
