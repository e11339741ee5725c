"""A git server: `git http-backend` behind a small HTTP server, on 127.0.0.1."""

from __future__ import annotations

import base64
import os
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from delivery_chain.tools.git.source import GitSource, Transport
from support import http_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HTTP = frozenset({Transport.HTTP})


@dataclass
class GitServer:
    """`git http-backend` behind a small HTTP server with basic authentication."""

    root: Path
    password: str = ""
    dumb: bool = False
    authorizations: list[tuple[str, str | None]] = field(default_factory=list)
    port: int = 0

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}"

    def source(self, name: str, **options: object) -> GitSource:
        return GitSource(url=self.url(name), transports=HTTP, **options)  # type: ignore[arg-type]


def handler_for(server: GitServer) -> type[http_server.Handler]:
    class Backend(http_server.Handler):
        def answer(self) -> None:
            body, given = self.body(), self.headers.get("Authorization")
            server.authorizations.append((self.path, given))
            expected = "Basic " + base64.b64encode(f"robot:{server.password}".encode()).decode()
            if server.password and given != expected:
                self.reply(401, {"WWW-Authenticate": 'Basic realm="git"'})
                return
            path, _, query = self.path.partition("?")
            env = {
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": str(server.root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": path,
                "QUERY_STRING": "" if server.dumb else query,
                "REQUEST_METHOD": self.command,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "CONTENT_LENGTH": str(len(body)),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "safe.directory",
                "GIT_CONFIG_VALUE_0": "*",
            }
            done = subprocess.run(
                ["git", "http-backend"], env=env, input=body, capture_output=True, check=False
            )
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
            self.reply(int(headers.pop("Status", "200").split()[0]), headers, content)

    return Backend


@contextmanager
def serving(server: GitServer) -> Iterator[GitServer]:
    """Serve the server's folder on its port, or on a free one if it has none yet."""
    with http_server.serving(handler_for(server), server.port) as server.port:
        yield server
