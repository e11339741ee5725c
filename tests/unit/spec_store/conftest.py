"""Variables and a clock for versions of specs."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from delivery_chain.spec_store import in_force
from support.variables import Variables, supervise


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> Variables:
    return supervise(monkeypatch)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[timedelta]:
    """How far the present is ahead, to be moved on."""
    ahead = [timedelta(0)]

    class Moved(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + ahead[0]

    monkeypatch.setattr(in_force, "datetime", Moved)
    return ahead
