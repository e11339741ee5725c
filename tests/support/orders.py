"""Orders for targets, about an image that exists nowhere."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from delivery_chain.core.spec.delivery import Trigger
from delivery_chain.targets.order import Order


def order(*, method: str = "POST", **fields: Any) -> Order:
    """An order of the trigger `prod`; given fields replace the defaults."""
    known: dict[str, Any] = {
        "id": "dlv_1",
        "trigger": Trigger(name="prod", url_connection="prod_hook", method=method),
        "tag": "v1.2",
        "digest": "sha256:" + "c" * 64,
        "name": "shop/api",
        "pushed_at": datetime(2026, 5, 20, 12, 0, tzinfo=UTC),
        "host": "registry.example.com",
        "region": "Zürich",
        "chain": "shop",
        "run_id": "r1",
        "regions": {},
    }
    return Order(**(known | fields))
