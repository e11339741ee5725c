"""A registry that responds as a test scripts it: refusals, lies, and broken connections."""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from delivery_chain.core.names.registry import Registry
from support.http_server import Handler, serving

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    """Path with its query."""
    authorization: str
    body: bytes
    """The body; shorter than announced if the client disconnected."""


@dataclass(slots=True)
class Answer:
    """Response to requests that match."""

    method: str
    path: str
    """Regular expression for the whole path with its query."""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: int | None = None
    """Bytes of the body after which the connection is closed."""
    times: int = 1_000_000
    """Number of times; after that, the next matching answer is used."""


@dataclass(slots=True)
class Script:
    """The running registry."""

    registry: Registry
    answers: list[Answer] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)

    def say(self, method: str, path: str, status: int = 200, **rest: Any) -> None:
        """Respond to requests of `method` whose whole path matches `path`."""
        self.answers.append(Answer(method, path, status, **rest))

    def say_blob(self, name: str, digest: str, content: bytes, **rest: Any) -> None:
        """Serve a blob to GET and HEAD."""
        self.say("(GET|HEAD)", f"/v2/{name}/blobs/{digest}", body=content, **rest)

    def say_manifest(self, name: str, ref: str, raw: bytes, media_type: str, **headers: str) -> None:
        """Serve a manifest to GET and HEAD."""
        self.say(
            "(GET|HEAD)",
            f"/v2/{name}/manifests/{ref}",
            headers={"Content-Type": media_type, **headers},
            body=raw,
        )

    def paths(self, method: str) -> list[str]:
        """The paths requested with `method`, in order."""
        return [one.path for one in self.seen if one.method == method]


@contextmanager
def scripted_registry(**registry: Any) -> Iterator[Script]:
    """Run a scripted registry on a free port until the block ends; unmatched requests get a 404.

    Args:
        registry: More fields of its `Registry`, such as the login.
    """
    script = Script(Registry(host=""))
    lock = threading.Lock()

    class Scripted(Handler):
        def answer(self) -> None:
            size, body = int(self.headers.get("Content-Length", "0")), self.body()
            login = self.headers.get("Authorization", "")
            with lock:
                script.seen.append(Seen(self.command, self.path, login, body))
                found = next((one for one in script.answers if one.times and fits(one, self)), None)
                found = found or Answer("", "", 404)
                found.times -= 1
            if len(body) < size:
                self.close_connection = True
            else:
                self.reply(found.status, found.headers, found.body, cut=found.cut)

    def fits(one: Answer, request: Handler) -> bool:
        return bool(re.fullmatch(one.method, request.command) and re.fullmatch(one.path, request.path))

    with serving(Scripted) as port:
        script.registry = Registry(host=f"127.0.0.1:{port}", plain_http=True, **registry)
        yield script
