"""Builds Dockerfile texts, with a real registry."""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import shutil
import socket
import subprocess
import threading
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from delivery_chain.builders.interface import BuildOutput, BuildWork
from delivery_chain.builders.table import BUILDERS
from delivery_chain.core.dockerfile.base_image_policy import BaseImagePolicy, ReadRule
from delivery_chain.core.names.platform import Platform
from delivery_chain.core.names.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HASHED = "$2b$04$BU9.iPMGyrYoPR0zjFiRkuweZAGP83Q67667j205nBiVK99lDiDiK"
"""bcrypt of `s3cr3t`."""
PASSWORD = "s3cr3t"
SCRATCH = "FROM scratch\nCOPY busybox /bin/busybox\n"


@contextlib.contextmanager
def running_registry(folder: Path, extra: str = "") -> Iterator[str]:
    """Run a registry on a free port of 127.0.0.1, with its data in a folder; yields its host."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = folder / "config.yml"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\nlog: {{level: error}}\n{extra}"
    )
    quiet = subprocess.DEVNULL
    with subprocess.Popen(["docker-registry", "serve", str(config)], stdout=quiet, stderr=quiet) as server:
        try:
            until = time.monotonic() + 15
            while time.monotonic() < until:
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                time.sleep(0.02)
            yield f"127.0.0.1:{port}"
        finally:
            server.terminate()


@contextlib.contextmanager
def locked_registry(folder: Path) -> Iterator[Registry]:
    """Run a registry that admits only `robot` with `PASSWORD`."""
    (folder / "htpasswd").write_text(f"robot:{HASHED}\n")
    with running_registry(folder, f"auth: {{htpasswd: {{realm: r, path: {folder}/htpasswd}}}}\n") as host:
        yield Registry(host, username="robot", password=PASSWORD, plain_http=True)


class _Api(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - its name there
        """Log nothing."""


@contextlib.contextmanager
def listening_api() -> Iterator[int]:
    """Run something like Airflow's API on all addresses of this machine; yields its port."""
    with http.server.ThreadingHTTPServer(("0.0.0.0", 0), _Api) as listener:  # noqa: S104
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        yield listener.server_address[1]
        listener.shutdown()
        thread.join()


def own_address() -> str:
    """An address of this machine other than loopback; loopback if it has no other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def run(script: str) -> str:
    """Return a RUN instruction for an image that contains only busybox."""
    return f"RUN {json.dumps(['/bin/busybox', 'sh', '-c', script])}\n"


def copy_shell(context: Path) -> None:
    """Copy bash, which can open connections, its libraries and busybox into a context, with a Dockerfile."""
    bash = shutil.which("bash") or "/bin/bash"
    listing = subprocess.run(["ldd", bash], check=True, capture_output=True, text=True).stdout
    shutil.copy("/bin/busybox", context / "busybox")
    shutil.copy(bash, context / "bash")
    lines = ["FROM scratch", "COPY busybox bash /bin/"]
    for number, library in enumerate(re.findall(r"(/\S+)", listing)):
        shutil.copy(library, context / f"lib{number}")
        lines.append(f"COPY lib{number} {library}")
    (context / "Dockerfile").write_text("\n".join(lines) + "\n")


def own_namespace(home: Registry, namespace: str) -> BaseImagePolicy:
    """The images that a chain's builds may read by default."""
    return BaseImagePolicy((ReadRule("the chain's own namespace", home.host, (namespace,), home),))


class Builder:
    """Builds a Dockerfile text; the output is in `lines`."""

    def __init__(self, folder: Path, name: str = "buildah") -> None:
        self.workdir = folder / "work"
        self.context = folder / "context"
        self.context.mkdir()
        self.lines: list[str] = []
        self.name = name
        self.builder = BUILDERS.load(name)()
        shutil.copy("/bin/busybox", self.context / "busybox")

    def __call__(
        self, registry: Registry, dockerfile: str, *, tag: str = "a", seconds: float = 60, **more: Any
    ) -> BuildOutput:
        """Build the text and push it as `shop/api`; `more` are fields of BuildWork, and buildah's options by name."""
        path = self.context / "Dockerfile"
        path.write_bytes(dockerfile.encode(errors="surrogateescape"))
        options = {name: str(more.pop(name)) for name in ("isolation", "network") if name in more}
        options |= more.pop("options", {})
        work = BuildWork(
            context=self.context,
            dockerfile=path,
            platform=more.pop("platform", Platform.LINUX_AMD64),
            target=f"{registry.host}/{more.pop('name', 'shop/api')}:{tag}",
            registry=registry,
            folder=self.workdir,
            options=options,
            **more,
        )
        return self.builder.build(work, seconds=seconds, log=self.lines.append)

    def leftovers(self) -> list[str]:
        """Contents left in the folder for builds."""
        return sorted(path.name for path in self.workdir.iterdir()) if self.workdir.exists() else []
