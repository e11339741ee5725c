"""Limits the load from senders: rate, body size, read time, and the memory of all bodies in flight."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect

from delivery_chain.errors import WebhookRefused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from starlette.requests import Request

LONGEST_READ = 30.0
"""Seconds within which a sender must send its body."""
BODIES_AT_ONCE = 64 * 1024 * 1024
"""Maximum total size in bytes of the bodies that one server process holds at a time."""
MOST_SENDERS = 1000
LONGEST_NUMBER = 20
"""Maximum number of digits of a Content-Length."""
AGAIN_SOON = 5.0
"""Retry-After in seconds for transient failures."""


class Rate:
    """A token bucket per sender; the burst is a minute's worth."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, per_minute: int, *, now: float | None = None) -> None:
        """Count one delivery.

        Raises:
            WebhookRefused: With status 429 and the seconds to wait.
        """
        now = time.monotonic() if now is None else now
        left, at = self._buckets.pop(name, (float(per_minute), now))
        left = min(float(per_minute), left + (now - at) * per_minute / 60)
        refused = left < 1
        self._buckets[name] = (left if refused else left - 1, now)
        if len(self._buckets) > MOST_SENDERS:
            self._buckets.popitem(last=False)
        if refused:
            wait = (1 - left) * 60 / per_minute
            raise WebhookRefused(429, f"more than {per_minute} deliveries a minute", retry_after=wait)


class Bodies:
    """Reads bodies within limits. Only received bytes count, and only while their body is in use."""

    def __init__(self, room: int = BODIES_AT_ONCE) -> None:
        """Start with no bodies in flight.

        Args:
            room: Total bytes; each sender gets at most half of them, so that none can starve the others.
        """
        self.room = room
        self.share = room // 2
        self.held: dict[str, int] = {}
        """Bytes in flight by sender."""

    @asynccontextmanager
    async def read(self, request: Request, largest: int, *, name: str) -> AsyncIterator[bytes]:
        """Read the body, which counts against the limits until the block ends.

        Args:
            request: A request whose body has not been read yet.
            largest: Maximum size in bytes.
            name: The sender that the request claims to be from.

        Raises:
            WebhookRefused: With status 413 if the body is too large, 408 if it is too slow, 503 if too many bytes are
                in flight.
        """
        _check_length(request.headers, largest)
        body = bytearray()
        try:
            await self._read(request, body, largest, name)
            yield bytes(body)
        finally:
            self._take(name, -len(body))

    async def _read(self, request: Request, body: bytearray, largest: int, name: str) -> None:
        try:
            async with asyncio.timeout(LONGEST_READ):
                async for chunk in request.stream():
                    if len(body) + len(chunk) > largest:
                        raise WebhookRefused(413, f"expected at most {largest} bytes")
                    self._room_for(name, len(chunk))
                    self._take(name, len(chunk))
                    body += chunk
        except ClientDisconnect:
            raise WebhookRefused(400, "the sender hung up before its body had arrived") from None
        except TimeoutError:
            raise WebhookRefused(408, f"the body did not arrive within {LONGEST_READ:g} s") from None

    def _room_for(self, name: str, size: int) -> None:
        if self.held.get(name, 0) + size > self.share or sum(self.held.values()) + size > self.room:
            raise WebhookRefused(503, "too many large requests at once", retry_after=AGAIN_SOON)

    def _take(self, name: str, size: int) -> None:
        held = self.held.pop(name, 0) + size
        if held:
            self.held[name] = held


def _check_length(headers: Mapping[str, str], largest: int) -> None:
    """Refuse a request whose Content-Length is too large or malformed; without one, reading enforces the limit."""
    said = headers.get("content-length", "")
    if not said:
        return
    if not (said.isascii() and said.isdecimal()):
        raise WebhookRefused(400, f"expected a number as Content-Length, found {said[:LONGEST_NUMBER]!r}")
    if len(said) > LONGEST_NUMBER or int(said) > largest:
        raise WebhookRefused(413, f"expected at most {largest} bytes")
