"""Measures the CPU time of a triggerer that polls 500 git sources a minute, and of git alone for comparison."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCES = 500
TAGS = 30
EVERY = 60.0
MINUTES = 2
TRANSPORTS = ("file", "http")
BARE = 50
"""Number of calls of git alone, for comparison."""


def repositories(folder: Path, count: int) -> None:
    """Create bare repositories with a branch and some tags."""
    first = folder / "0000.git"
    git = ["git", "-c", "user.name=bench", "-c", "user.email=bench@example.com", "-C", str(first)]
    subprocess.run(
        ["git", "init", "--quiet", "--bare", "--template=", "--initial-branch=main", str(first)], check=True
    )
    tree = _out([*git, "hash-object", "-t", "tree", "-w", "/dev/null"])
    commit = _out([*git, "commit-tree", tree, "-m", "bench"])
    refs = ["refs/heads/main", *(f"refs/tags/v1.{number}.0" for number in range(TAGS))]
    updates = "".join(f"create {ref} {commit}\n" for ref in refs)
    subprocess.run([*git, "update-ref", "--stdin"], input=updates.encode(), check=True)
    subprocess.run([*git, "pack-refs", "--all"], check=True)
    for number in range(1, count):
        shutil.copytree(first, folder / f"{number:04}.git")


def _out(argv: list[str]) -> str:
    return subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


class Backend(BaseHTTPRequestHandler):
    """Git's own smart HTTP server."""

    protocol_version = "HTTP/1.1"
    root = ""

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        given = {
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        done = subprocess.run(
            ["git", "-c", "safe.directory=*", "http-backend"],
            input=self.rfile.read(int(self.headers.get("Content-Length", 0))),
            env={**os.environ, **given, "GIT_PROJECT_ROOT": self.root, "GIT_HTTP_EXPORT_ALL": "1"},
            stdout=subprocess.PIPE,
            check=True,
        )
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for name, value in {**fields, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - the standard library's name

    def log_message(self, *_: Any) -> None:
        pass


def serve(root: str) -> None:
    """Print the port, then serve until stopped."""
    Backend.root = root
    server = ThreadingHTTPServer(("127.0.0.1", 0), Backend)
    print(server.server_port, flush=True)
    server.serve_forever()


@contextlib.contextmanager
def address(transport: str, folder: Path) -> Iterator[str]:
    """Yield the base URL of the repositories. The server is not a child of the measured process."""
    if transport == "file":
        yield folder.as_uri()
        return
    argv = [sys.executable, __file__, "serve", str(folder)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield f"http://127.0.0.1:{(server.stdout or sys.stdin).readline().strip()}"
        finally:
            server.terminate()


def spent() -> tuple[float, float]:
    """Return the CPU seconds of this process, and of its children that have exited."""
    mine, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return mine.ru_utime + mine.ru_stime, children.ru_utime + children.ru_stime


async def watch(count: int, seconds: float, every: float) -> dict[str, float]:
    """Run all triggers in one event loop, as the triggerer does; return their CPU seconds and number of polls."""
    from delivery_chain.triggers import git_ref  # noqa: PLC0415 - reads the environment set for this process

    known = git_ref.look("git_bench", "0000.git", None, None)
    assert len(known) == TAGS + 1, f"expected {TAGS + 1} refs, found {len(known)}"
    looks = 0

    class Counted(git_ref.GitRefTrigger):
        def look(self) -> dict[str, str]:
            nonlocal looks
            looks += 1
            return super().look()

    triggers = [
        Counted("git_bench", f"{number:04}.git", known=known, poll_seconds=every) for number in range(count)
    ]
    events: list[Any] = []

    async def follow(trigger: Counted) -> None:
        events.extend([event.payload async for event in trigger.run()])

    before = spent()
    began = time.monotonic()
    tasks = [asyncio.create_task(follow(trigger)) for trigger in triggers]
    await asyncio.sleep(seconds)
    own, children = (now - then for now, then in zip(spent(), before, strict=True))
    wall = time.monotonic() - began
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert not events, f"expected no event, found {events[0]}"
    return {"looks": looks, "own": own, "children": children, "wall": wall}


def bare(url: str) -> float:
    """Return the CPU seconds of a plain `git ls-remote`."""
    before = spent()[1]
    for _ in range(BARE):
        subprocess.run(
            ["git", "ls-remote", "--heads", "--tags", "--", url],
            env={"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "HOME": "/nonexistent"},
            stdout=subprocess.DEVNULL,
            check=True,
        )
    return (spent()[1] - before) / BARE


def measured(transport: str, count: int, seconds: float, every: float) -> dict[str, float]:
    """Run `watch` in a process of its own, with an Airflow home of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "git"
        folder.mkdir()
        repositories(folder, count)
        with address(transport, folder) as base:
            env = {
                **os.environ,
                "AIRFLOW_HOME": name,
                "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
                "AIRFLOW__DELIVERY_CHAIN__GIT_TRANSPORTS": "file,http",
                "AIRFLOW_CONN_GIT_BENCH": json.dumps({"conn_type": "git", "host": base}),
            }
            argv = [sys.executable, __file__, "watch", str(count), str(seconds), str(every)]
            done = subprocess.run(argv, env=env, stdout=subprocess.PIPE, timeout=seconds + 120, check=True)
            alone = bare(f"{base}/0000.git")
    return {**json.loads(done.stdout.splitlines()[-1]), "bare": alone}


def main(quick: bool) -> None:  # noqa: FBT001 - the option
    """Print CPU seconds per minute."""
    count, seconds, every = (50, 12.0, 6.0) if quick else (SOURCES, MINUTES * 60.0, EVERY)
    print(
        "| git over | sources | polls per minute | Python | git | CPU seconds, 500 polls | git alone, 500 polls |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|")
    for transport in TRANSPORTS:
        found = measured(transport, count, seconds, every)
        looks = found["looks"]
        own, git, alone = (
            500 * value for value in (found["own"] / looks, found["children"] / looks, found["bare"])
        )
        rate = 60 * looks / found["wall"]
        print(
            f"| {transport} | {count} | {rate:.0f} | {own:.1f} | {git:.1f} | {own + git:.1f} | {alone:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        print(json.dumps(asyncio.run(watch(int(sys.argv[2]), *map(float, sys.argv[3:])))))
