"""What one sender may cost: how often, how large, how slow, and how much of all of them at once."""

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
"""Seconds that a sender may take to send its body."""
BODIES_AT_ONCE = 64 * 1024 * 1024
"""Bytes of bodies that one server process holds at a time."""
MOST_SENDERS = 1000
AGAIN_SOON = 5.0
"""Seconds after which a sender is asked to try again."""


class Rate:
    """A token bucket per sender: a minute's worth may come at once."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, per_minute: int, *, now: float | None = None) -> None:
        """Count one delivery.

        Raises:
            WebhookRefused: 429, with the seconds to wait.
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


@dataclass(slots=True)
class Bodies:
    """Reads bodies within bounds."""

    room: int = BODIES_AT_ONCE

    @asynccontextmanager
    async def read(self, request: Request, largest: int) -> AsyncIterator[bytes]:
        """The body, which counts as long as the block lasts.

        Args:
            request: Not read yet.
            largest: Bytes.

        Raises:
            WebhookRefused: 413 for a larger one, 408 for a slow one, 503 where too many are read at once.
        """
        wanted = _length(request.headers, largest)
        if wanted > self.room:
            raise WebhookRefused(503, "too many large requests at once", retry_after=AGAIN_SOON)
        self.room -= wanted
        try:
            yield await _read(request, wanted)
        finally:
            self.room += wanted


def _length(headers: Mapping[str, str], largest: int) -> int:
    """Bytes to keep room for: what the request says it has, or the most it may have where it does not say."""
    said = headers.get("content-length", "")
    if not said:
        return largest
    if not (said.isascii() and said.isdecimal()):
        raise WebhookRefused(400, "the Content-Length is no number")
    if len(said) > len(str(largest)) or int(said) > largest:
        raise WebhookRefused(413, f"expected at most {largest} bytes")
    return int(said)


async def _read(request: Request, largest: int) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(LONGEST_READ):
            async for chunk in request.stream():
                body += chunk
                if len(body) > largest:
                    raise WebhookRefused(413, f"expected at most {largest} bytes")
    except ClientDisconnect:
        raise WebhookRefused(400, "the sender hung up before its body had arrived") from None
    except TimeoutError:
        raise WebhookRefused(408, f"the body did not arrive within {LONGEST_READ:g} s") from None
    return bytes(body)
