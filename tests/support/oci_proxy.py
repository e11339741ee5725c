"""A proxy for connections to a registry that counts bytes, and breaks connections when a test requests it."""

from __future__ import annotations

import re
import socket
import struct
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from delivery_chain.core.names.registry import Registry

_REQUEST = re.compile(rb"(?:^|\r\n)(?:GET|HEAD|POST|PUT|PATCH|DELETE) \S+ HTTP/1\.1\r\n")
_RESUMED = re.compile(rb"\r\ncontent-range: [1-9]\d*-", re.IGNORECASE)
_PIECE = 65536


@dataclass(slots=True)
class Break:
    """The way in which a connection ends."""

    up: bool
    """Whether to count bytes sent to the registry; otherwise those received from it."""
    after: int
    """Number of bytes of one connection in that direction."""
    how: str = "close"
    """`close`, `reset`, or `stall`: stays open, but transfers nothing any more."""
    times: int = 1


@dataclass(slots=True)
class Line:
    """The running proxy."""

    registry: Registry
    """The registry, through this proxy."""
    breaks: list[Break] = field(default_factory=list)
    up: int = 0
    """Number of bytes sent to the registry."""
    down: int = 0
    requests: int = 0
    resumed: int = 0
    """Number of requests that resumed an upload from another byte than its first."""
    broken: int = 0
    """Number of connections broken on purpose."""
    lock: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, *, up: int) -> None:
        """Wait at most 60 s until so many bytes were sent to the registry."""
        with self.lock:
            assert self.lock.wait_for(lambda: self.up >= up, 60), f"only {self.up} bytes went to the registry"

    def breaks_at(self, *, up: bool, seen: int) -> Break | None:
        """Return the break that is due, and use it up."""
        with self.lock:
            for one in self.breaks:
                if one.times > 0 and one.up == up and seen > one.after:
                    one.times -= 1
                    self.broken += 1
                    return one
        return None


class _Pump:
    """One connection."""

    def __init__(
        self, line: Line, client: socket.socket, server: socket.socket, over: threading.Event
    ) -> None:
        self.line, self.client, self.server, self.over = line, client, server, over

    def move(self, *, up: bool) -> None:
        source, sink = (self.client, self.server) if up else (self.server, self.client)
        seen = 0
        with suppress(OSError):
            while piece := source.recv(_PIECE):
                seen += len(piece)
                due = self.line.breaks_at(up=up, seen=seen)
                passed = piece if due is None else piece[: max(0, len(piece) - (seen - due.after))]
                self.count(passed, up=up)
                sink.sendall(passed)
                if due is not None:
                    self.end(due.how)
                    return
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def count(self, piece: bytes, *, up: bool) -> None:
        with self.line.lock:
            if up:
                self.line.up += len(piece)
                self.line.lock.notify_all()
                self.line.requests += len(_REQUEST.findall(piece))
                self.line.resumed += len(_RESUMED.findall(piece))
            else:
                self.line.down += len(piece)

    def end(self, how: str) -> None:
        if how == "stall":
            self.over.wait(60)
        if how == "reset":
            # Wake the other pump first: a socket that another thread reads from would not be closed.
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with suppress(OSError):
            self.client.shutdown(socket.SHUT_RD if how == "reset" else socket.SHUT_RDWR)
        with suppress(OSError):
            self.server.shutdown(socket.SHUT_RDWR)
        if how == "reset":
            self.client.close()


@contextmanager
def line_to(registry: Registry) -> Iterator[Line]:
    """Run a line to a plain-http registry on a free port until the block ends."""
    host, _, port = registry.host.partition(":")
    over = threading.Event()
    open_now: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        line = Line(replace(registry, host=f"127.0.0.1:{listener.getsockname()[1]}"))

        def accept() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                    server = socket.create_connection((host, int(port)), timeout=20)
                except OSError:
                    return
                for one in (client, server):
                    one.settimeout(None)
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                open_now.extend((client, server))
                pump = _Pump(line, client, server, over)
                for up in (True, False):
                    threading.Thread(target=pump.move, kwargs={"up": up}, daemon=True).start()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield line
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for one in open_now:
                one.close()
