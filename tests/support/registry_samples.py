"""Recorded webhooks of registries, from `tests/samples/webhooks`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from delivery_chain.senders.base import Request

SAMPLES = Path(__file__).parents[1] / "samples" / "webhooks"
SECRET = "recorded-secret"
"""The secret given to the samples' senders."""
NOW = datetime(2026, 6, 1, tzinfo=UTC)
WITHOUT_HEADER = frozenset({"acr", "dockerhub", "quay"})
"""Senders whose secret is in the address."""


def sample(sender: str, case: str) -> Request:
    """A request as it was recorded."""
    folder = SAMPLES / sender / case
    return Request(
        headers=json.loads((folder / "headers.json").read_text()),
        body=(folder / "body.json").read_bytes(),
        token=SECRET if sender in WITHOUT_HEADER else "",
    )


def changed(sender: str, case: str, **values: Any) -> Request:
    """A sample with other values at some paths, with `__` between the keys; None removes a key."""
    request = sample(sender, case)
    payload = json.loads(request.body)
    for path, value in values.items():
        *keys, last = [int(key) if key.isdigit() else key for key in path.split("__")]
        place = payload
        for key in keys:
            place = place[key]
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    return Request(headers=request.headers, body=json.dumps(payload).encode(), token=request.token)
