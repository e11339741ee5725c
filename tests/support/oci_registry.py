"""Real registries for tests: Debian's docker-registry in a child process, on a free port."""

from __future__ import annotations

import json
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from delivery_chain.core.names.registry import Registry
from support.processes import await_port, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = "/usr/bin/docker-registry"
USER = "robot"
PASSWORD = "s3cret-pass"
HTPASSWD = "robot:$2b$04$RvNWJanzv1slc3.tPwkT0OKVwQqNty63PmMnT4juxvRx6cpPzPQxC\n"
"""Entry for `USER` and `PASSWORD`; docker-registry accepts only bcrypt."""


def free_port() -> int:
    """Return a port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def docker_registry(
    folder: Path, *, htpasswd: bool = False, port: int | None = None, **sections: Any
) -> Iterator[Registry]:
    """Run a registry until the block ends; its data is in `folder`.

    Args:
        folder: For configuration, data and log; empty, or from an earlier run.
        htpasswd: Whether to require `USER` and `PASSWORD`.
        port: Port to listen on; a free one by default.
        sections: More of the configuration: `auth`, and `http` with `tls`.

    Yields:
        How to reach it, with the login if it asks for one. A `tls` section makes it https; the CA is not set.
    """
    port = port or free_port()
    config: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "error"},
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "data")},
            "delete": {"enabled": True},
            "maintenance": {"uploadpurging": {"enabled": False}},
        },
        **sections,
        "http": {"addr": f"127.0.0.1:{port}", "secret": "for-tests", **sections.get("http", {})},
    }
    if htpasswd:
        (folder / "htpasswd").write_text(HTPASSWD)
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}
    # JSON is YAML.
    (folder / "config.yml").write_text(json.dumps(config))
    secure = "tls" in config["http"]
    with running([PROGRAM, "serve", str(folder / "config.yml")], folder / "log") as process:
        await_port(process, port, folder / "log", name="docker-registry")
        yield Registry(
            host=f"127.0.0.1:{port}",
            username=USER if htpasswd else "",
            password=PASSWORD if htpasswd else "",
            plain_http=not secure,
        )
