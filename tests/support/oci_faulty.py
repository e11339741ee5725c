"""A registry in memory: strict where the spec is, with uploads that can be gone on with, and faults on demand."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from delivery_chain.core.names.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_BLOB = re.compile(r"/v2/(.+)/blobs/(sha256:[0-9a-f]{64})")
_UPLOAD = re.compile(r"/v2/(.+)/blobs/uploads/([0-9]*)")
_MANIFEST = re.compile(r"/v2/(.+)/manifests/(.+)")
_REFERRERS = re.compile(r"/v2/(.+)/referrers/(.+)")
_TAGS = re.compile(r"/v2/(.+)/tags/list")
INDEX = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, for a fault to look at."""

    method: str
    path: str
    """With the query."""
    range: str


@dataclass(slots=True)
class Fault:
    """What happens to requests that fit, `times` times."""

    fits: Callable[[Asked], bool]
    status: int = 0
    """Answered at once; 0 to answer as usual."""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    """Bytes of the request's body, or of the answer's, after which the connection is closed."""
    change: Callable[[bytes], bytes] | None = None
    """What becomes of the answer's body."""
    times: int = 1


@dataclass(slots=True)
class Memory:
    """The running registry and what it holds."""

    registry: Registry
    api: bool
    """Whether it has the referrers API."""
    resumes: bool
    checks: bool = True
    """Whether bytes that are not their digest are refused."""
    blobs: dict[str, dict[str, bytes]] = field(default_factory=dict)
    manifests: dict[str, dict[str, tuple[bytes, str]]] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    received: int = 0
    """Bytes of blobs that were sent here."""
    given: int = 0
    """Bytes of blobs that were fetched here."""
    opened: int = 0
    """Uploads ever opened."""
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fail(self, method: str, path: str, **rest: Any) -> None:
        """Let requests of `method` whose path holds the pattern go wrong; see `Fault`."""
        wanted = re.compile(path)
        self.faults.append(Fault(lambda one: one.method == method and bool(wanted.search(one.path)), **rest))

    def count(self, method: str = "") -> int:
        """Requests, of one method or all."""
        return sum(method in ("", one.method) for one in self.asked)

    def fault(self, asked: Asked) -> Fault | None:
        with self.lock:
            self.asked.append(asked)
            found = next((one for one in self.faults if one.times > 0 and one.fits(asked)), None)
            if found is not None:
                found.times -= 1
            return found


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    memory: Memory
    hurt: Fault | None

    def log_message(self, *args: object) -> None:
        """Stay quiet."""

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def serve(self) -> None:
        memory = self.memory
        with memory.lock:
            memory.at_once += 1
            memory.most_at_once = max(memory.most_at_once, memory.at_once)
        self.hurt = memory.fault(Asked(self.command, self.path, self.headers.get("Range", "")))
        if self.hurt is not None and self.hurt.status:
            self.refuse(self.hurt.status, **self.hurt.headers)
        else:
            self.route()

    def route(self) -> None:
        path = urlsplit(self.path).path
        for pattern, name in ((_UPLOAD, "upload"), (_BLOB, "blob"), (_MANIFEST, "manifest"), (_TAGS, "tags")):
            if found := pattern.fullmatch(path):
                getattr(self, f"{self.command.lower()}_{name}", self.refuse)(*found.groups())
                return
        found = _REFERRERS.fullmatch(path)
        if found and self.memory.api:
            self.get_referrers(*found.groups())
        else:
            self.refuse(200 if path == "/v2/" else 404)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        body = self.hurt.change(body) if self.hurt and self.hurt.change and body else body
        with self.memory.lock:
            # Before the client can know, and ask for more.
            self.memory.at_once -= 1
        self.send_response(status)
        extra = self.hurt.headers if self.hurt else {}
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        for key, value in {"Content-Length": str(len(body)), **named, **extra}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = self.hurt.cut if self.hurt else None
        self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True

    def refuse(self, status: object = 405, *_: object, **headers: str) -> None:
        self.hurt = None
        code = status if isinstance(status, int) else 405
        if self.command in ("PUT", "PATCH"):
            self.close_connection = True
        self.answer(code, b"" if code < 400 else json.dumps({"errors": []}).encode(), **headers)

    def get_blob(self, name: str, digest: str) -> None:
        content = self.memory.blobs.get(name, {}).get(digest)
        if content is None:
            self.refuse(404)
            return
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked is None or self.command == "HEAD":
            body, status, headers = content, 200, {}
        else:
            first, last = int(asked[1]), min(int(asked[2]), len(content) - 1)
            body, status = content[first : last + 1], 206
            headers = {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
        if self.command == "GET":
            self.memory.given += len(body)
        self.answer(status, body, Docker_Content_Digest=digest, **headers)

    head_blob = get_blob

    def post_upload(self, name: str, _: str) -> None:
        query = parse_qs(urlsplit(self.path).query)
        digest, other = query.get("mount", [""])[0], query.get("from", [""])[0]
        content = self.memory.blobs.get(other, {}).get(digest)
        if content is not None:
            self.memory.blobs.setdefault(name, {})[digest] = content
            self.answer(201)
            return
        with self.memory.lock:
            self.memory.opened += 1
            number = str(self.memory.opened)
            self.memory.uploads[number] = bytearray()
        self.answer(202, Location=f"/v2/{name}/blobs/uploads/{number}?state=secret", Range="0-0")

    def get_upload(self, name: str, number: str) -> None:
        held = self.memory.uploads.get(number)
        if held is None or not self.memory.resumes:
            self.refuse(404)
        else:
            self.answer(
                204, Range=f"0-{max(len(held) - 1, 0)}", Location=f"/v2/{name}/blobs/uploads/{number}"
            )

    def delete_upload(self, _: str, number: str) -> None:
        self.refuse(204 if self.memory.uploads.pop(number, None) is not None else 404)

    def put_upload(self, name: str, number: str) -> None:
        held = self.memory.uploads.get(number)
        start = self.headers.get("Content-Range", "0-").partition("-")[0]
        if held is None or int(start) != len(held):
            self.refuse(404 if held is None else 416)
            return
        left = int(self.headers["Content-Length"])
        cut = self.hurt.cut if self.hurt else None
        while left and (cut is None or cut > 0):
            piece = self.rfile.read1(min(left, 65536 if cut is None else min(65536, cut)))
            if not piece:
                break
            left -= len(piece)
            cut = None if cut is None else cut - len(piece)
            self.memory.received += len(piece)
            held += piece
        if left:
            self.memory.at_once -= 1
            self.close_connection = True
            return
        digest = parse_qs(urlsplit(self.path).query)["digest"][0]
        if self.memory.checks and f"sha256:{hashlib.sha256(held).hexdigest()}" != digest:
            body = b'{"errors":[{"code":"DIGEST_INVALID","message":"other bytes"}]}'
            self.answer(400, body)
            return
        self.memory.blobs.setdefault(name, {})[digest] = bytes(held)
        self.memory.uploads.pop(number, None)
        self.hurt = None
        self.answer(201, Docker_Content_Digest=digest)

    def get_manifest(self, name: str, ref: str) -> None:
        digest = self.memory.tags.get(name, {}).get(ref, ref)
        held = self.memory.manifests.get(name, {}).get(digest)
        if held is None:
            self.refuse(404)
        else:
            self.answer(200, held[0], Content_Type=held[1], Docker_Content_Digest=digest)

    head_manifest = get_manifest

    def put_manifest(self, name: str, ref: str) -> None:
        raw, kind = self.body(), self.headers["Content-Type"]
        data = json.loads(raw)
        parts = [
            one["digest"]
            for one in (*data.get("layers", ()), *([data["config"]] if "config" in data else ()))
        ]
        children = [one["digest"] for one in data.get("manifests", ())]
        held = self.memory.manifests.setdefault(name, {})
        if not set(parts) <= set(self.memory.blobs.get(name, {})) or not set(children) <= set(held):
            self.answer(404, b'{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"x"}]}')
            return
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        held[digest] = (raw, kind)
        if ":" not in ref:
            self.memory.tags.setdefault(name, {})[ref] = digest
        self.answer(201, Docker_Content_Digest=digest)

    def get_tags(self, name: str) -> None:
        found = self.memory.tags.get(name)
        if found is None:
            self.refuse(404)
        else:
            self.answer(200, json.dumps({"name": name, "tags": sorted(found)}).encode())

    def get_referrers(self, name: str, digest: str) -> None:
        found = []
        for one, (raw, kind) in self.memory.manifests.get(name, {}).items():
            data = json.loads(raw)
            if data.get("subject", {}).get("digest") == digest:
                entry = {"mediaType": kind, "digest": one, "size": len(raw)}
                found.append({**entry, "artifactType": data.get("artifactType", "")})
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": found}
        self.answer(200, json.dumps(document).encode(), Content_Type=INDEX)


for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
    setattr(Handler, f"do_{method}", Handler.serve)


@contextmanager
def memory_registry(*, api: bool = False, resumes: bool = True, **registry: Any) -> Iterator[Memory]:
    """Run one on a free port until the block ends.

    Args:
        api: Whether it has the referrers API; without, clients keep lists under fallback tags.
        resumes: Whether it tells how much of an upload it holds.
        registry: More fields of its `Registry`.
    """
    bound = type("Bound", (Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), bound)
    server.daemon_threads = True
    memory = Memory(
        Registry(host=f"127.0.0.1:{server.server_port}", plain_http=True, **registry), api, resumes
    )
    bound.memory = memory  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield memory
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
