"""A receiver whose connections, clock and database are made up."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from support.webhook_airflow import (
    MAIN,
    A,
    moved,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest


NO_PROOF = {"detail": "the request carries no valid signature or token"}
PUSH = moved((MAIN, "", A))
SENTINEL = "SENTINEL-of-the-body"


@dataclass
class Fakes:
    """What stands in for Airflow's database."""

    deliveries: list[Any] = field(default_factory=list)
    """What was taken."""
    fails: list[Exception] = field(default_factory=list)
    """Raised by the next ones."""
    lookups: list[str] = field(default_factory=list)
    """Connections that were looked up."""
    now: float = 1000.0
    database: Exception | None = None
    """What a look at the database raises."""
    names: set[str] = field(default_factory=set)
    """Senders in the database."""
    listings: int = 0
    """How often they were listed."""
    waits: list[float] = field(default_factory=list)
    """Seconds for which answers were held back."""


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the receiver logged."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("delivery_chain") and record.levelno >= logging.WARNING
    ]


async def slow() -> AsyncIterator[bytes]:
    """A body that begins and never ends."""
    yield b"{"
    await asyncio.get_running_loop().create_future()
