"""Serves a `MemoryRegistry` over HTTP: counts requests, runs its turns, and applies their faults."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.http_server import Handler
from support.oci_memory_verbs import Asked, CutOffError, Reply, refusal, reply_to

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.oci_memory import Fault, MemoryRegistry

_PIECE = 65536
_DRAINED = 256 * 1024
"""Bytes of an unused body that are read so that the connection can be reused; the limit of Go's server."""


def handler_for(held: MemoryRegistry) -> type[Handler]:
    """Return a handler that serves a registry."""

    class Bound(_RegistryHandler):
        registry = held

    return Bound


class _RegistryHandler(Handler):
    registry: MemoryRegistry
    left: int
    """Number of bytes of the body that have not been read yet."""
    uploads: bool
    """Whether the request carries bytes of a blob."""

    def answer(self) -> None:
        held = self.registry
        self.left = int(self.headers.get("Content-Length", "0"))
        self.uploads = "/blobs/uploads/" in self.path and self.left > 0
        with held.lock:
            held.requests.append(f"{self.command} {self.path}")
            held.at_once += 1
            held.most_at_once = max(held.most_at_once, held.at_once)
        try:
            fault = held.take_turns(self.command, self.path)
            reply = self._carry_out(fault)
        finally:
            with held.lock:
                # Do this before the client gets the response, and may send the next request.
                held.at_once -= 1
        if reply is None:
            self.close_connection = True
        else:
            self._say(reply, fault)

    def _carry_out(self, fault: Fault) -> Reply | None:
        """Return the response, or None to break the connection."""
        if fault.closed == "before":
            return None
        if fault.status:
            return refusal(fault.status) if fault.status >= 400 else Reply(fault.status)
        base = f"http://{self.headers['Host']}"
        pieces = self._pieces(fault.cut if self.uploads else None)
        try:
            reply = reply_to(self.registry, Asked(self.command, self.path, self.headers, base, pieces))
        except CutOffError:
            return None
        self.registry.take_turns(self.command, self.path, after=True)
        return None if fault.closed else reply

    def _pieces(self, cut: int | None) -> Iterator[bytes]:
        """The body as it arrives, but at most `cut` bytes of it."""
        end = max(self.left - cut, 0) if cut is not None else 0
        while self.left > end:
            piece = self.rfile.read1(min(self.left - end, _PIECE))  # type: ignore[attr-defined]
            if not piece:
                break
            self.left -= len(piece)
            yield piece
        if self.left:
            raise CutOffError

    def _say(self, reply: Reply, fault: Fault) -> None:
        if self.left <= _DRAINED:
            self.rfile.read(self.left)
        else:
            self.close_connection = True
        body = fault.change(reply.body) if fault.change and reply.body else reply.body
        headers = {**reply.headers, **fault.headers}
        announced = headers.get("Content-Length")
        if announced is not None and int(announced) != len(body):
            self.close_connection = True
        self.reply(reply.status, headers, body, cut=None if self.uploads else fault.cut)
