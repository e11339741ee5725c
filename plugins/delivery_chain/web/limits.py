"""Limits the load from senders: rate, body size, read time, and the memory of all bodies in flight."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from contextlib import asynccontextmanager
from dataclasses import dataclass
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
STRANGERS = 60
"""Requests per minute without proof that one server process answers with 401, the others with 429."""
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

    def give_back(self, name: str) -> None:
        """Uncount one delivery."""
        if name in self._buckets:
            left, at = self._buckets[name]
            self._buckets[name] = left + 1, at


class Strangers:
    """One limit for all requests that are not proven yet, whichever connection they name.

    Proven requests do not count. A limit of unknown names alone would reveal, in a flood, which names are known.
    """

    def __init__(self) -> None:
        self._rate = Rate()

    def enter(self) -> WebhookRefused | None:
        """Count a request; return the refusal that it gets unless it is proven, None for a 401."""
        try:
            self._rate.take("", STRANGERS)
        except WebhookRefused as error:
            what = f"more than {STRANGERS} requests a minute without a valid signature or token"
            return WebhookRefused(429, what, retry_after=error.retry_after)
        return None

    def leave(self) -> None:
        """Uncount a request that was proven."""
        self._rate.give_back("")


@dataclass(eq=False, slots=True)
class _Body:
    """A body in flight."""

    name: str
    kept: bytearray | None
    """None if its bytes are only counted."""
    size: int = 0


class Bodies:
    """Reads bodies within bounds. Only bytes received count, and only while they are in use.

    Bodies of unknown senders are read with the same limits, but not kept: that takes no memory, and the sender can't
    tell the difference.
    """

    def __init__(self, room: int = BODIES_AT_ONCE) -> None:
        """Start with no bodies in flight.

        Args:
            room: Total bytes; each sender gets at most half of them, so that none can starve the others.
        """
        self.room = room
        self.share = room // 2
        self.held: dict[str, int] = {}
        """Bytes by sender, kept or not, for senders with bodies in flight."""
        self.kept = 0
        """Bytes in memory."""
        self._arriving: set[_Body] = set()

    @asynccontextmanager
    async def read(
        self, request: Request, largest: int, *, name: str, keep: bool = True
    ) -> AsyncIterator[bytes | None]:
        """Read the body, which counts against the limits until the block ends.

        Args:
            request: A request whose body was not read yet, see also `check_length`.
            largest: Maximum size in bytes.
            name: The sender that the request claims to be from.
            keep: Whether the bytes are needed.

        Yields:
            The body; None if it was not kept, or was dropped because all bodies together exceeded the limit.

        Raises:
            WebhookRefused: 413 if too large, 408 if too slow, 503 if too many bytes of one sender are in flight.
        """
        body = _Body(name, bytearray() if keep else None)
        self._arriving.add(body)
        try:
            await self._read(request, body, largest)
            self._arriving.discard(body)
            yield None if body.kept is None else bytes(body.kept)
        finally:
            self._arriving.discard(body)
            self._drop(body)
            self._hold(name, -body.size)

    async def _read(self, request: Request, body: _Body, largest: int) -> None:
        try:
            async with asyncio.timeout(LONGEST_READ):
                async for chunk in request.stream():
                    if body.size + len(chunk) > largest:
                        raise WebhookRefused(413, f"expected at most {largest} bytes")
                    self._add(body, chunk)
        except ClientDisconnect:
            raise WebhookRefused(400, "the sender hung up before its body had arrived") from None
        except TimeoutError:
            raise WebhookRefused(408, f"the body did not arrive within {LONGEST_READ:g} s") from None

    def _add(self, body: _Body, chunk: bytes) -> None:
        if self.held.get(body.name, 0) + len(chunk) > self.share:
            raise WebhookRefused(503, "too many large requests at once", retry_after=AGAIN_SOON)
        self._hold(body.name, len(chunk))
        body.size += len(chunk)
        if body.kept is not None:
            body.kept += chunk
            self.kept += len(chunk)
        while self.kept > self.room:
            # Refusing here would reveal that the bodies in memory are of known senders. The largest body gives way, so
            # that nobody can keep out the small ones of other senders.
            self._drop(max(self._arriving, key=lambda one: len(one.kept or b"")))

    def _drop(self, body: _Body) -> None:
        if body.kept is not None:
            self.kept -= len(body.kept)
            body.kept = None

    def _hold(self, name: str, size: int) -> None:
        held = self.held.pop(name, 0) + size
        if held:
            self.held[name] = held


def check_length(headers: Mapping[str, str], largest: int) -> None:
    """Refuse a request whose Content-Length is too large or malformed; without one, reading enforces the limit.

    Raises:
        WebhookRefused: 413 or 400.
    """
    said = headers.get("content-length", "")
    if not said:
        return
    if not (said.isascii() and said.isdecimal()):
        raise WebhookRefused(400, f"expected a number as Content-Length, found {said[:LONGEST_NUMBER]!r}")
    if len(said) > LONGEST_NUMBER or int(said) > largest:
        raise WebhookRefused(413, f"expected at most {largest} bytes")
