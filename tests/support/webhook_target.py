"""A trigger's target whose responses a test scripts byte by byte: answers, silence, drips and noise."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass(frozen=True, slots=True)
class Got:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    """Header names in lower case."""
    body: bytes


@dataclass(slots=True)
class Target:
    """The running target."""

    url: str
    got: list[Got] = field(default_factory=list)
    replies: list[bytes | Callable[[socket.socket, threading.Event], None]] = field(default_factory=list)
    """Responses to the next requests, in order; then `OK`."""


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    """A response as bytes; `_` in a header's name stands for `-`."""
    lines = [f"HTTP/1.1 {status} Because", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def hang(connection: socket.socket, over: threading.Event) -> None:
    """Send nothing while the test runs."""
    del connection
    over.wait(60)


def drip(start: bytes, piece: bytes) -> Callable[[socket.socket, threading.Event], None]:
    """Send `start`, then `piece` again and again, each well within any timeout."""

    def reply(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(start)
        while not over.wait(0.05):
            connection.sendall(piece)

    return reply


@contextmanager
def webhook_target() -> Iterator[Target]:
    """Run a target on a free port of 127.0.0.1 until the block ends."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = Target(f"http://127.0.0.1:{server.getsockname()[1]}/hook")
        threads: list[threading.Thread] = []

        def serve() -> None:
            while not over.is_set():
                with suppress(OSError):
                    connection, _ = server.accept()
                    thread = threading.Thread(target=take, args=(connection,))
                    threads.append(thread)
                    thread.start()

        def take(connection: socket.socket) -> None:
            connection.settimeout(10)
            with connection, suppress(OSError), connection.makefile("rb") as lines:
                first = lines.readline().decode("latin-1").split(" ")
                if len(first) < 2:
                    return
                headers = {}
                while line := lines.readline().decode("latin-1").strip():
                    name, _, value = line.partition(":")
                    headers[name.lower()] = value.strip()
                body = lines.read(int(headers.get("content-length", "0")))
                target.got.append(Got(first[0], first[1], headers, body))
                reply = target.replies.pop(0) if target.replies else OK
                if callable(reply):
                    reply(connection, over)
                else:
                    connection.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield target
        finally:
            over.set()
            # Wakes the thread that waits for the next connection.
            with suppress(OSError):
                socket.create_connection(server.getsockname()).close()
            for one in (thread, *threads):
                one.join()
